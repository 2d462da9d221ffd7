//! The behaviour of every engine, compared with a map.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use keelson_core::engine::{Change, GetRow, Table, WriteBatch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

type Rows = BTreeMap<(Table, Bytes), Bytes>;

/// Keys of all shapes: revisions, short names, and v2 paths that differ only after 511 bytes.
fn key(rng: &mut ChaCha8Rng, table: Table) -> Bytes {
    let number: u64 = rng.random_range(0..300);
    match (table, number % 8) {
        (Table::Key, 0) => [&number.to_be_bytes()[..], b"_\0\0\0\0\0\0\0\x01t"]
            .concat()
            .into(),
        (Table::Key, _) => [&number.to_be_bytes()[..], b"_\0\0\0\0\0\0\0\0"]
            .concat()
            .into(),
        (Table::Tree, 0..4) => Bytes::from(format!("{}/{number}", "p".repeat(498))),
        (Table::Tree, 4) => Bytes::from("p".repeat(490 + usize::try_from(number % 20).unwrap())),
        _ => Bytes::from(format!("{number}")),
    }
}

fn value(rng: &mut ChaCha8Rng) -> Bytes {
    let size = match rng.random_range(0..40) {
        0 => 200_000,
        1 => 5_000,
        2 => 0,
        _ => rng.random_range(1..300),
    };
    Bytes::from(vec![rng.random(); size])
}

fn batch(rng: &mut ChaCha8Rng, ascending: &mut u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for _ in 0..rng.random_range(0..40) {
        let table = Table::ALL[rng.random_range(0..Table::ALL.len())];
        match rng.random_range(0..4) {
            0 => batch.delete(table, key(rng, table)),
            1 => {
                *ascending += 1;
                let key = [&ascending.to_be_bytes()[..], b"_\0\0\0\0\0\0\0\0"].concat();
                batch.put(Table::Key, key, value(rng));
            }
            _ => batch.put(table, key(rng, table), value(rng)),
        }
    }
    batch
}

fn apply(rows: &mut Rows, batch: &WriteBatch) {
    for (row, change) in &batch.changes {
        match change {
            Change::Put(value) => rows.insert(row.clone(), value.clone()),
            Change::Delete => rows.remove(row),
        };
    }
}

fn found(engine: &dyn Engine, table: Table, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> Vec<Bytes> {
    let mut keys = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        keys.push(Bytes::copy_from_slice(key));
        true
    };
    engine.range(table, bounds.0, bounds.1, &mut visit).unwrap();
    keys
}

fn check_same(engine: &dyn Engine, rows: &Rows) {
    for table in Table::ALL {
        let mut expected = rows.iter().filter(|((known, _), _)| *known == table);
        let mut visit = |key: &[u8], value: &[u8]| {
            let ((_, expected_key), expected_value) = expected.next().expect("no row too many");
            assert_eq!(key, &expected_key[..]);
            assert!(value == &expected_value[..]);
            true
        };
        engine
            .range(table, Bound::Unbounded, Bound::Unbounded, &mut visit)
            .unwrap();
        assert_eq!(expected.next(), None, "a row is missing from {table:?}");
    }
}

fn check_reads(engine: &dyn Engine, rows: &Rows, rng: &mut ChaCha8Rng) {
    for _ in 0..60 {
        let table = Table::ALL[rng.random_range(0..Table::ALL.len())];
        let (one, other) = (key(rng, table), key(rng, table));
        let expected = rows.get(&(table, one.clone())).cloned();
        assert_eq!(engine.get(table, &one).unwrap(), expected);
        let other_expected = rows.get(&(table, other.clone())).cloned();
        let mut together = |get: &GetRow<'_>| {
            assert_eq!(get(table, &one).unwrap(), expected);
            assert_eq!(get(table, &other).unwrap(), other_expected);
        };
        engine.get_many(&mut together).unwrap();
        let bound = |rng: &mut ChaCha8Rng, key| match rng.random_range(0..3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        };
        let bounds = (bound(rng, &one[..]), bound(rng, &other[..]));
        let expected = rows.keys().filter(|(known, key)| {
            *known == table && RangeBounds::<[u8]>::contains(&bounds, &key[..])
        });
        let expected: Vec<Bytes> = expected.map(|(_, key)| key.clone()).collect();
        assert_eq!(found(engine, table, bounds), expected);
    }
    let mut visits = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        visits += 1;
        visits < 3
    };
    engine
        .range(Table::Key, Bound::Unbounded, Bound::Unbounded, &mut visit)
        .unwrap();
    let known = rows
        .keys()
        .filter(|(table, _)| *table == Table::Key)
        .count();
    assert_eq!(visits, known.min(3));
}

/// The suite. `reopen` returns the engine with everything that was written.
fn check(mut engine: Arc<dyn Engine>, reopen: impl Fn(Arc<dyn Engine>) -> Arc<dyn Engine>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut rows, mut ascending) = (Rows::new(), 1000);
    for round in 0..60 {
        let batch = batch(&mut rng, &mut ascending);
        engine.write(&batch).unwrap();
        apply(&mut rows, &batch);
        if round % 5 == 0 {
            check_same(&*engine, &rows);
            check_reads(&*engine, &rows, &mut rng);
        }
        if round % 9 == 8 {
            engine = reopen(engine);
            check_same(&*engine, &rows);
        }
    }
    let size = engine.size();
    let held: usize = rows
        .iter()
        .map(|((_, key), value)| key.len() + value.len())
        .sum();
    assert!(held as u64 <= size.in_use_bytes);
    assert!(size.in_use_bytes <= size.total_bytes);
}

fn check_kind(kind: StorageEngine) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db-1");
    check(open_in(kind, &dir), |engine| {
        drop(engine);
        open_in(kind, &dir)
    });
}

#[test]
fn memory_conforms() {
    check(Arc::new(MemoryEngine::new()), |engine| engine);
}

#[test]
fn lmdb_conforms() {
    check_kind(StorageEngine::Lmdb);
}

#[test]
fn sled_conforms() {
    check_kind(StorageEngine::Sled);
}
