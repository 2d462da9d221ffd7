//! Ranges over 100,000 keys: one key, a page, a count, and a page of the past; with the rows still
//! in the memtable and with all of them in LMDB.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use keelson_benches::machine::{Machine, put};
use keelson_core::state::ReadView;
use keelson_proto::etcdserverpb::RangeRequest;

const KEYS: u64 = 100_000;
const PAGE: i64 = 100;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory to write in");
    let mut machine = Machine::on_disk(dir.path());
    // Every key twice: what is read is not what was written first.
    for key in (0..KEYS).chain(0..KEYS) {
        machine.apply(&put(key));
    }
    machine.flush();
    let written = i64::try_from(KEYS).expect("a few") + 1;
    all(&mut criterion, "lmdb", &machine.state.view(), written);
    for key in 0..1_000 {
        machine.apply(&put(key));
    }
    all(&mut criterion, "memtable", &machine.state.view(), written);
    criterion.final_summary();
}

/// Every kind of range on that view.
fn all(criterion: &mut Criterion, place: &str, view: &ReadView, written: i64) {
    let key = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let one = RangeRequest {
        key: key(500),
        ..Default::default()
    };
    let page = RangeRequest {
        key: key(0),
        range_end: Bytes::from_static(b"\0"),
        limit: PAGE,
        ..Default::default()
    };
    let count = RangeRequest {
        count_only: true,
        ..page.clone()
    };
    let past = RangeRequest {
        revision: written,
        ..page.clone()
    };
    let mut group = criterion.benchmark_group("range");
    for (name, request, pairs) in [
        ("one", one, 1),
        ("page", page, PAGE),
        ("count", count, 0),
        ("past_page", past, PAGE),
    ] {
        let expected = usize::try_from(pairs).expect("a few");
        group.throughput(Throughput::Elements(expected.max(1) as u64));
        group.bench_function(BenchmarkId::new(name, place), |bench| {
            bench.iter(|| {
                let response = view.range(black_box(&request)).expect("a good range");
                assert_eq!(response.kvs.len(), expected);
                response
            });
        });
    }
    group.finish();
}
