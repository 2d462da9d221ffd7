//! The log against a vector: after any appends, replacements, marks and reopens, both agree.

use proptest::prelude::*;

use super::*;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6u8, any::<u8>()).prop_map(|(count, size)| Step::Append(count, size)),
        3 => (1..6u8, any::<u8>()).prop_map(|(count, size)| Step::Conflict(count, size)),
        1 => Just(Step::Vote),
        1 => (0..4u8).prop_map(Step::Snapshot),
        2 => (0..8u8).prop_map(Step::Truncate),
        2 => Just(Step::Prepare),
        6 => Just(Step::Sync),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn agrees_with_a_vector(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new(SimDisk::new());
        for step in steps {
            run.step(step).expect("a disk without faults");
        }
        run.step(Step::Sync).expect("a disk without faults");
        run.step(Step::Reopen).expect("a disk without faults");
    }
}

#[test]
fn gives_space_back() {
    let mut run = Run::new(SimDisk::new());
    for round in 0..200 {
        run.step(Step::Append(4, 100)).unwrap();
        run.step(Step::Sync).unwrap();
        if round % 5 == 0 {
            run.step(Step::Truncate(2)).unwrap();
        }
    }
    let size = run.wal.as_ref().unwrap().size_bytes();
    assert!(size <= 6 * CONFIG.segment_bytes, "{size} bytes");
    run.step(Step::Reopen).unwrap();
}

#[test]
fn a_batch_larger_than_a_segment_is_one_frame() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    for _ in 0..20 {
        run.step(Step::Append(3, 255)).unwrap();
    }
    let syncs = run.disk.syncs();
    run.step(Step::Sync).unwrap();
    // The syncs are of the next segment's header, its name, the first segment's watermark, the
    // frame, and the removal of the first segment, which has no entry.
    assert_eq!(run.disk.syncs(), syncs + 5);
    run.step(Step::Append(1, 2)).unwrap();
    run.step(Step::Sync).unwrap();
    run.step(Step::Reopen).unwrap();
}

#[test]
fn one_write_and_one_sync_a_turn() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    while run.wal.as_mut().unwrap().prepare_next().unwrap() {}
    for _ in 0..5 {
        let (operations, syncs) = (run.disk.operations(), run.disk.syncs());
        run.step(Step::Append(2, 2)).unwrap();
        run.step(Step::Append(1, 2)).unwrap();
        run.step(Step::Sync).unwrap();
        assert_eq!(run.disk.operations(), operations + 2);
        assert_eq!(run.disk.syncs(), syncs + 1);
    }
}

#[test]
fn a_log_at_rest_notes_its_end_once() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    let mut note = || {
        let before = run.disk.syncs();
        run.wal.as_mut().unwrap().note_end().unwrap();
        run.disk.syncs() - before
    };
    assert_eq!([note(), note()], [1, 0]);
    run.step(Step::Append(1, 2)).unwrap();
    run.step(Step::Sync).unwrap();
    let before = run.disk.syncs();
    run.wal.as_mut().unwrap().note_end().unwrap();
    assert_eq!(run.disk.syncs(), before + 1);
}

#[test]
#[should_panic(expected = "cannot follow")]
fn refuses_a_gap() {
    let (mut wal, _) = open(&SimDisk::new()).unwrap();
    let _ = wal.append(None, &entries(2, 1, 1, 0), None);
}
