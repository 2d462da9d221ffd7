//! Applying committed puts: to fresh keys and to old ones, with the rows in memory and in LMDB,
//! and to old ones with the running hash.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use keelson_benches::machine::{Machine, put};

/// Old keys that are overwritten in turn.
const KEYS: u64 = 10_000;

/// Entries made ahead of the clock.
const CHUNK: u64 = 1_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory to write in");
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    for (name, keys) in [("new_keys", u64::MAX), ("old_keys", KEYS)] {
        group.bench_function(BenchmarkId::new(name, "memory"), |bench| {
            let (mut machine, mut next) = (Machine::in_memory(), 0);
            bench.iter_custom(|turns| turns_of(&mut machine, &mut next, keys, turns));
        });
        group.bench_function(BenchmarkId::new(name, "lmdb"), |bench| {
            let dir = fresh(dir.path());
            let (mut machine, mut next) = (Machine::on_disk(dir.path()), 0);
            bench.iter_custom(|turns| turns_of(&mut machine, &mut next, keys, turns));
        });
    }
    // In turn: their ratio is what the hash costs.
    for (name, has_hash) in [("without_hash", false), ("with_hash", true)] {
        group.bench_function(BenchmarkId::new("old_keys", name), |bench| {
            let (machine, mut next) = (Machine::in_memory(), 0);
            let mut machine = if has_hash {
                machine.with_hash()
            } else {
                machine
            };
            bench.iter_custom(|turns| turns_of(&mut machine, &mut next, KEYS, turns));
        });
    }
    group.finish();
    criterion.final_summary();
}

fn fresh(parent: &Path) -> tempfile::TempDir {
    tempfile::tempdir_in(parent).expect("a directory to write in")
}

/// Applies `turns` puts to the keys in turn, and measures nothing else.
fn turns_of(machine: &mut Machine, next: &mut u64, keys: u64, turns: u64) -> Duration {
    let mut time = Duration::ZERO;
    let mut left = turns;
    while left > 0 {
        let count = left.min(CHUNK);
        let commands: Vec<Bytes> = (*next..*next + count).map(|key| put(key % keys)).collect();
        let begin = Instant::now();
        for command in &commands {
            machine.apply(command);
        }
        time += begin.elapsed();
        *next += count;
        left -= count;
    }
    time
}
