//! Any damage to a log: opening it must not panic and must never serve an entry that was not
//! written; and a log that opens must go on working.
//!
//! The input is damage to an honest log: five bytes each, a position and a mask; a mask of zero
//! cuts the file there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::{ClusterId, Entry, EntryKind, HardState, Index, MemberId, Term};
use keelson_store::internals::disk::Disk;
use keelson_store::internals::disk::sim::SimDisk;
use keelson_store::internals::wal::{Identity, Recovered, Wal, WalConfig, WalError};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(1),
    member: MemberId(2),
};
/// So small that the honest log has several.
const SEGMENT_BYTES: u64 = 4096;
const ENTRIES: u64 = 40;

/// The target.
pub fn run(bytes: &[u8]) {
    let disk = Arc::new(SimDisk::new());
    let dir = Path::new("/wal");
    let written: Vec<Entry> = (1..=ENTRIES).map(entry).collect();
    write_honestly(&disk, dir, &written);
    damage(&disk, dir, bytes);
    let Ok((mut wal, recovered)) = open(&disk, dir) else {
        return;
    };
    check_prefix(&recovered, &written);
    // What opens goes on.
    let next = entry(recovered.mark.index.0 + recovered.entries.len() as u64 + 1);
    wal.append(None, std::slice::from_ref(&next), None)
        .expect("an open log appends");
    wal.sync().expect("an honest disk syncs");
    drop(wal);
    let (_, again) = open(&disk, dir).expect("what was repaired opens");
    assert_eq!(again.entries.last(), Some(&next), "a synced entry was lost");
    assert!(recovered.boot < again.boot, "a boot number came twice");
}

fn open(disk: &Arc<SimDisk>, dir: &Path) -> Result<(Wal<SimDisk>, Recovered), WalError> {
    let config = WalConfig {
        segment_bytes: SEGMENT_BYTES,
        ..WalConfig::default()
    };
    Wal::create_or_open(Arc::clone(disk), dir, IDENTITY, config)
}

fn write_honestly(disk: &Arc<SimDisk>, dir: &Path, entries: &[Entry]) {
    let (mut wal, _) = open(disk, dir).expect("an empty directory");
    for pair in entries.chunks(2) {
        let commit = Index(pair[0].index.0 - 1);
        let state = HardState {
            term: Term(1),
            vote: MemberId(2),
            commit,
        };
        wal.append(Some(state), pair, None)
            .expect("an open log appends");
        wal.sync().expect("an honest disk syncs");
    }
}

fn damage(disk: &SimDisk, dir: &Path, bytes: &[u8]) {
    let names = disk.list(dir).expect("the directory is there");
    let segments: Vec<PathBuf> = names
        .iter()
        .filter(|name| name.ends_with(".wal"))
        .map(|name| dir.join(name))
        .collect();
    for blow in bytes.chunks_exact(5).take(16) {
        let path = &segments[usize::from(blow[0]) % segments.len()];
        let size = disk.bytes(path).map_or(0, |bytes| bytes.len() as u64);
        let at = u64::from(u16::from_be_bytes([blow[1], blow[2]])) % size.max(1);
        match blow[4] {
            0 => disk.truncate(path, at),
            mask if at < size => disk.flip(path, at, mask),
            _ => {}
        }
    }
}

fn check_prefix(recovered: &Recovered, written: &[Entry]) {
    assert_eq!(recovered.mark.index, Index(0), "a mark that nobody set");
    assert!(
        recovered.entries.len() <= written.len(),
        "entries from nowhere"
    );
    for (found, honest) in recovered.entries.iter().zip(written) {
        assert_eq!(found, honest, "an entry that was not written");
    }
}

fn entry(index: u64) -> Entry {
    Entry {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: Bytes::from(vec![index as u8; 100 + index as usize * 7 % 300]),
        context: Bytes::new(),
    }
}
