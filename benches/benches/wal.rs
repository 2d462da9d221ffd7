//! The log beside its floor: batches of 300-byte entries, made durable one batch at a time, and
//! the same bytes written and synced in a zeroed file.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use keelson_core::{ClusterId, Entry, EntryKind, Index, MemberId, Term};
use keelson_store::internals::disk::{Disk, DiskFile, RealDisk, RealFile};
use keelson_store::internals::wal::{Identity, Wal, WalConfig};

const ENTRY_BYTES: usize = 300;
const BATCHES: [u64; 3] = [1, 10, 100];
const FILE_BYTES: u64 = 64 << 20;
/// After this many entries the segments before them are removed, as after a snapshot.
const KEPT: u64 = 100_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory to write in");
    let mut group = criterion.benchmark_group("wal");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        let floor = BenchmarkId::new("floor", batch);
        group.bench_function(floor, |bench| {
            let file = zeroed(&dir.path().join("floor"));
            let mut offset = 0;
            bench.iter_custom(|turns| raw_turns(&file, &mut offset, batch, turns));
        });
        let path = dir.path().join(format!("wal-{batch}"));
        group.bench_function(BenchmarkId::new("append", batch), |bench| {
            let mut wal = open(&path, false);
            bench.iter_custom(|turns| wal_turns(&mut wal, batch, turns));
        });
        // Without the sync: what the log itself costs.
        let path = dir.path().join(format!("cpu-{batch}"));
        group.bench_function(BenchmarkId::new("append_no_fsync", batch), |bench| {
            let mut wal = open(&path, true);
            bench.iter_custom(|turns| wal_turns(&mut wal, batch, turns));
        });
    }
    group.finish();
    criterion.final_summary();
}

fn zeroed(path: &Path) -> RealFile {
    let file = RealDisk
        .create(path)
        .or_else(|_| RealDisk.open(path))
        .expect("a file");
    for offset in (0..FILE_BYTES).step_by(1 << 20) {
        file.write_at(offset, &vec![0; 1 << 20]).expect("zeros");
    }
    file.sync_data().expect("a sync");
    file
}

fn raw_turns(file: &RealFile, offset: &mut u64, batch: u64, turns: u64) -> Duration {
    let bytes = vec![7; ENTRY_BYTES * usize::try_from(batch).expect("small")];
    let started = Instant::now();
    for _ in 0..turns {
        if FILE_BYTES < *offset + bytes.len() as u64 {
            *offset = 0;
        }
        file.write_at(*offset, black_box(&bytes)).expect("a write");
        file.sync_data().expect("a sync");
        *offset += bytes.len() as u64;
    }
    started.elapsed()
}

fn open(dir: &Path, unsafe_no_fsync: bool) -> Wal<RealDisk> {
    let identity = Identity {
        cluster: ClusterId(1),
        member: MemberId(1),
    };
    let config = WalConfig {
        unsafe_no_fsync,
        ..WalConfig::default()
    };
    let opened = Wal::create_or_open(Arc::new(RealDisk), dir, identity, config);
    let mut wal = opened.expect("a log").0;
    while wal.prepare_next().expect("room for the next segment") {}
    wal
}

fn wal_turns(wal: &mut Wal<RealDisk>, batch: u64, turns: u64) -> Duration {
    let data = Bytes::from(vec![7; ENTRY_BYTES]);
    let mut spent = Duration::ZERO;
    for _ in 0..turns {
        let first = wal.last_index().0 + 1;
        let entry = |index| Entry {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Command,
            data: data.clone(),
            context: Bytes::new(),
        };
        let entries: Vec<Entry> = (first..first + batch).map(entry).collect();
        let started = Instant::now();
        wal.append(None, black_box(&entries), None)
            .expect("a log that lives");
        wal.sync().expect("a sync");
        spent += started.elapsed();
        tend(wal, first);
    }
    spent
}

/// What the member does between turns.
fn tend(wal: &mut Wal<RealDisk>, first: u64) {
    if KEPT < first && first.is_multiple_of(10_000) {
        let kept_from = Index(first - KEPT);
        wal.truncate_before(kept_from, Term(1))
            .expect("old segments given up");
    }
    if first.is_multiple_of(1000) {
        while wal.prepare_next().expect("room for the next segment") {}
    }
}
