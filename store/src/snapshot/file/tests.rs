//! A state with many leases, which are not held at once.

use std::sync::Arc;

use keelson_bolt::Database;
use keelson_core::engine::{Engine, MemoryEngine};
use keelson_core::state::{Genesis, Import, ImportEnd, Limits, StateMachine};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{AppliedMark, ConfState, LeaseRow};

use super::*;

const LEASES: i64 = 20_000;
/// A blob, and the pages that are not full.
const WAITING_MAX: usize = (64 << 10) + (64 << 10);

/// A state of nothing but leases, half of whose ids are negative.
fn capture() -> Capture {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let mut import = Import::new(Arc::clone(&engine), 1, 0);
    for number in 1..=LEASES {
        let id = if number % 2 == 0 { number } else { -number };
        let lease = LeaseRow {
            id,
            ttl: 60,
            ..LeaseRow::default()
        };
        import.lease(lease).unwrap();
    }
    let voters = vec![1];
    let mark = AppliedMark {
        index: 1,
        term: 1,
        conf_state: Some(ConfState {
            voters,
            ..ConfState::default()
        }),
        hash: None,
    };
    let member = Member {
        id: 1,
        ..Member::default()
    };
    let genesis = Genesis {
        cluster_id: keelson_core::ClusterId(1),
        members: vec![member],
        mark,
    };
    let end = ImportEnd {
        genesis,
        revision: 1,
        compacted: -1,
    };
    import.finish(end).unwrap();
    let state = StateMachine::open(engine, Limits::default()).unwrap();
    state.unwrap().capture().unwrap()
}

/// Takes 64 KiB at a time, as a client's stream does.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    waiting_max: usize,
}

impl Sink for Taken {
    fn drain(&mut self, builder: &mut Builder) -> Result<(), FileError> {
        self.waiting_max = self.waiting_max.max(builder.waiting());
        while 64 << 10 <= builder.waiting() {
            self.bytes.extend_from_slice(&builder.take(64 << 10));
        }
        Ok(())
    }
}

#[test]
fn leases_are_emitted_as_they_are_read() {
    let capture = capture();
    let layout = plan(&capture).unwrap();
    let mut taken = Taken::default();
    let rest = write(capture.clone(), layout, &mut taken).unwrap();
    assert!(rest.len() < WAITING_MAX, "{} bytes are left", rest.len());
    assert!(taken.waiting_max < WAITING_MAX, "{}", taken.waiting_max);
    let mut file = taken.bytes;
    file.extend_from_slice(&rest);
    assert_eq!(file.len() as u64, layout.bytes());
    let database = Database::open(&file[..]).unwrap();
    let mut rows = database.bucket(b"lease").unwrap().unwrap();
    let (mut count, mut before) = (0, None);
    while let Some(row) = rows.next().unwrap() {
        assert!(before < Some(row.key.clone()), "the order of the keys");
        before = Some(row.key);
        count += 1;
    }
    assert_eq!(count, LEASES);
    // The rows are made one by one: an error at the first is the end.
    let mut visited = 0;
    let stopped = buckets::visit(&capture, buckets::LEASE, &mut |_, _| {
        visited += 1;
        Err(FileError::Left)
    });
    assert!(matches!(stopped, Err(FileError::Left)));
    assert_eq!(visited, 1);
}
