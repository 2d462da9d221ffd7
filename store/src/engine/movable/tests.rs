//! The copy has what the engine has, also of what is written meanwhile.

use std::collections::BTreeMap;

use keelson_core::engine::MemoryEngine;
use proptest::prelude::*;

use super::*;

type Rows = BTreeMap<(u8, Bytes), Bytes>;

fn rows(engine: &dyn Engine) -> Rows {
    let mut rows = Rows::new();
    for table in Table::ALL {
        let mut note = |key: &[u8], value: &[u8]| {
            let row = (table as u8, Bytes::copy_from_slice(key));
            rows.insert(row, Bytes::copy_from_slice(value));
            true
        };
        let all = Bound::Unbounded;
        engine.range(table, all, all, &mut note).unwrap();
    }
    rows
}

/// A batch of rows in two tables; a value of 0 deletes.
fn batch(rows: &[(bool, u8, u8)]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (first, key, value) in rows {
        let table = if *first { Table::Key } else { Table::Leases };
        match value {
            0 => batch.delete(table, vec![*key]),
            value => batch.put(table, vec![*key], vec![*value; usize::from(*value)]),
        }
    }
    batch
}

fn any_batch() -> impl Strategy<Value = Vec<(bool, u8, u8)>> {
    prop::collection::vec((any::<bool>(), 0..40u8, 0..9u8), 0..12)
}

proptest! {
    #[test]
    fn a_copy_has_what_was_written_before_and_meanwhile(
        before in any_batch(),
        meanwhile in prop::collection::vec((any_batch(), 1..60usize), 0..30),
        after in any_batch(),
    ) {
        let engine = MovableEngine::new(Arc::new(MemoryEngine::new()), PathBuf::new());
        engine.write(&batch(&before)).unwrap();
        let to: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        engine.begin(Arc::clone(&to), PathBuf::new());
        for (rows, bytes) in meanwhile {
            engine.write(&batch(&rows)).unwrap();
            engine.copy_step(bytes).unwrap();
        }
        while engine.copy_step(50).unwrap() {}
        engine.write(&batch(&after)).unwrap();
        let expected = rows(&engine);
        engine.finish(|| Ok::<_, EngineError>(())).unwrap();
        prop_assert_eq!(&rows(&*to), &expected);
        prop_assert_eq!(&rows(&engine), &expected);
        // Without a move in progress nothing follows.
        engine.write(&batch(&before)).unwrap();
        prop_assert_eq!(rows(&*to), rows(&engine));
    }
}

/// A further step took the copy back to a row before its end, and a deletion after that row was
/// missed.
#[test]
fn a_whole_copy_follows_deletions_also_after_a_further_step() {
    let engine = MovableEngine::new(Arc::new(MemoryEngine::new()), PathBuf::new());
    let to: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    engine.begin(Arc::clone(&to), PathBuf::new());
    assert!(!engine.copy_step(1).unwrap());
    engine.write(&batch(&[(true, 1, 1), (true, 2, 1)])).unwrap();
    assert!(!engine.copy_step(1).unwrap());
    engine.write(&batch(&[(true, 2, 0)])).unwrap();
    assert_eq!(rows(&*to).len(), 1);
}

/// An engine without room.
struct Full;

impl Engine for Full {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(None)
    }

    fn range(
        &self,
        _: Table,
        _: Bound<&[u8]>,
        _: Bound<&[u8]>,
        _: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn write(&self, _: &WriteBatch) -> Result<(), EngineError> {
        Err(EngineError("no space left".to_owned()))
    }

    fn size(&self) -> EngineSize {
        EngineSize::default()
    }
}

#[test]
fn a_copy_without_room_does_not_stop_the_engine() {
    let engine = MovableEngine::new(Arc::new(MemoryEngine::new()), PathBuf::new());
    engine.write(&batch(&[(true, 1, 1)])).unwrap();
    engine.begin(Arc::new(Full), PathBuf::new());
    let failed = engine.copy_step(1000).unwrap_err().to_string();
    assert!(failed.contains("no space left"), "{failed}");
    engine.write(&batch(&[(true, 1, 2)])).unwrap();
    engine.write(&batch(&[(true, 0, 2)])).unwrap();
    let unfinished = engine.finish(|| -> Result<(), EngineError> { panic!("it is not whole") });
    assert!(unfinished.is_err());
    assert_eq!(rows(&engine).len(), 2);
}

#[test]
fn a_switch_that_fails_leaves_the_engine() {
    let engine = MovableEngine::new(Arc::new(MemoryEngine::new()), PathBuf::new());
    engine.write(&batch(&[(true, 1, 1)])).unwrap();
    let to: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    engine.begin(Arc::clone(&to), PathBuf::new());
    while engine.copy_step(1000).unwrap() {}
    let switched = engine.finish(|| Err(EngineError("a sync failed".to_owned())));
    assert!(switched.is_err());
    engine.write(&batch(&[(true, 2, 2)])).unwrap();
    assert_eq!((rows(&engine).len(), rows(&*to).len()), (2, 1));
}
