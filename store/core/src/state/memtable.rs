//! The memtable: rows that are applied and not in the engine yet.
//!
//! Rows arrive in revision order and never change, so a memtable is an append-only list. One thread
//! appends; readers search it without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use super::revision::RowKey;

/// Rows in the first chunk; every further chunk is twice the one before.
const FIRST_CHUNK: usize = 256;
/// Enough chunks for more rows than fit into memory.
const CHUNKS: usize = 24;

type Chunk = Box<[OnceLock<(RowKey, Bytes)>]>;

/// A list of rows in revision order that can be read while it grows.
#[derive(Default)]
pub(super) struct Memtable {
    chunks: [OnceLock<Chunk>; CHUNKS],
    len: AtomicUsize,
    bytes: AtomicU64,
}

impl Memtable {
    /// Appends a row; only the one writer calls it. Readers find the row once its revision is
    /// published.
    pub(super) fn push(&self, key: RowKey, row: Bytes) {
        let at = self.len.load(Ordering::Relaxed);
        debug_assert!(self.last().is_none_or(|last| last < key));
        let (chunk, slot) = place(at);
        let chunk = self.chunks[chunk].get_or_init(|| {
            let rows = FIRST_CHUNK << chunk;
            (0..rows).map(|_| OnceLock::new()).collect()
        });
        let weight = row.len() as u64;
        let fresh = chunk[slot].set((key, row)).is_ok();
        assert!(fresh, "only one thread appends");
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        self.len.store(at + 1, Ordering::Release);
    }

    /// The row with this key.
    pub(super) fn get(&self, key: RowKey) -> Option<&Bytes> {
        let at = self.lower_bound(key);
        let (found, row) = self.row(at)?;
        (*found == key).then_some(row)
    }

    /// The rows from this key on, as of the call.
    pub(super) fn from(&self, key: RowKey) -> impl Iterator<Item = &(RowKey, Bytes)> {
        let end = self.len();
        (self.lower_bound(key)..end).map_while(|at| self.row(at))
    }

    /// The key of the first row.
    pub(super) fn first(&self) -> Option<RowKey> {
        self.row(0).map(|(key, _)| *key)
    }

    fn last(&self) -> Option<RowKey> {
        let at = self.len().checked_sub(1)?;
        self.row(at).map(|(key, _)| *key)
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// The bytes of the rows, without their keys.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn row(&self, at: usize) -> Option<&(RowKey, Bytes)> {
        let (chunk, slot) = place(at);
        self.chunks[chunk].get()?[slot].get()
    }

    /// The position of the first row at or after the key.
    fn lower_bound(&self, key: RowKey) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.row(middle) {
                Some((row, _)) if *row < key => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

/// The chunk of a position, and the offset in it.
fn place(at: usize) -> (usize, usize) {
    let scaled = at / FIRST_CHUNK + 1;
    let chunk = scaled.ilog2() as usize;
    (chunk, at - FIRST_CHUNK * ((1 << chunk) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_where_it_was_put() {
        let memtable = Memtable::default();
        let rows = 5000;
        for main in 0..rows {
            let key = RowKey::first_of(2 * main);
            memtable.push(key, Bytes::from(main.to_string()));
        }
        for main in 0..rows {
            let row = memtable.get(RowKey::first_of(2 * main));
            assert_eq!(row.expect("there"), &Bytes::from(main.to_string()));
            assert_eq!(memtable.get(RowKey::first_of(2 * main + 1)), None);
        }
        assert_eq!(memtable.from(RowKey::first_of(9001)).count(), 499);
        assert_eq!(memtable.first(), Some(RowKey::first_of(0)));
    }

    #[test]
    fn places_are_dense() {
        let mut expected = (0, 0);
        for at in 0..10_000 {
            assert_eq!(place(at), expected);
            expected.1 += 1;
            if expected.1 == FIRST_CHUNK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }
}
