//! The test suite for every engine, and the tests that need real files.

mod conformance;
mod damage;
mod kill;

use super::*;

const MAP_BYTES: u64 = 1 << 30;

fn open_in(kind: StorageEngine, dir: &Path) -> Arc<dyn Engine> {
    open(kind, dir, MAP_BYTES).expect("an engine")
}
