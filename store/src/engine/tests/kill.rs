//! kill -9 during writes: each batch is complete or absent, and no acknowledged one is missing.

use std::io::{BufRead, BufReader};
use std::ops::Bound;
use std::process::{Child, Command, Stdio};

use keelson_core::engine::{Table, WriteBatch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const DIR: &str = "KEELSON_KILL_DIR";
const KIND: &str = "KEELSON_KILL_KIND";
const ROWS: u64 = 40;
/// Batches before the last few are compacted away, so that deletes happen as well.
const KEPT: u64 = 6;

fn revision(batch: u64, row: u64) -> Vec<u8> {
    [
        &(batch * ROWS + row).to_be_bytes()[..],
        b"_\0\0\0\0\0\0\0\0",
    ]
    .concat()
}

fn batch(number: u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for row in 0..ROWS {
        let size = if row == 0 {
            70_000
        } else {
            100 + usize::try_from(row).unwrap()
        };
        batch.put(
            Table::Key,
            revision(number, row),
            vec![number.to_le_bytes()[0]; size],
        );
        batch.put(
            Table::Leases,
            row.to_be_bytes().to_vec(),
            number.to_be_bytes().to_vec(),
        );
        if KEPT <= number {
            batch.delete(Table::Key, revision(number - KEPT, row));
        }
    }
    batch.put(Table::Meta, "applied", number.to_be_bytes().to_vec());
    batch
}

fn applied(engine: &dyn Engine) -> Option<u64> {
    let row = engine.get(Table::Meta, b"applied").unwrap()?;
    Some(u64::from_be_bytes(*row.first_chunk().unwrap()))
}

/// The process that is killed; not a test of its own.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the parent passes the role to the child"
)]
fn child() {
    let (Ok(dir), Ok(kind)) = (std::env::var(DIR), std::env::var(KIND)) else {
        return;
    };
    let engine = open_in(StorageEngine::from_name(&kind).unwrap(), Path::new(&dir));
    let first = applied(&*engine).map_or(0, |last| last + 1);
    for number in first.. {
        engine.write(&batch(number)).unwrap();
        println!("\nwritten {number}");
    }
}

fn start(kind: StorageEngine, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "engine::tests::kill::child", "--nocapture"]);
    command.env(DIR, dir).env(KIND, kind.name());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn check(engine: &dyn Engine, acknowledged: Option<u64>) {
    let last = applied(engine);
    assert!(
        acknowledged <= last,
        "{acknowledged:?} was acknowledged, {last:?} is there"
    );
    let Some(last) = last else {
        return;
    };
    let first = (last + 1).saturating_sub(KEPT);
    let mut expected = (first..=last).flat_map(|number| (0..ROWS).map(move |row| (number, row)));
    let mut visit = |key: &[u8], value: &[u8]| {
        let (number, row) = expected
            .next()
            .expect("no row of a batch that is not there");
        assert_eq!(key, revision(number, row));
        assert!(value.iter().all(|byte| *byte == number.to_le_bytes()[0]));
        true
    };
    engine
        .range(Table::Key, Bound::Unbounded, Bound::Unbounded, &mut visit)
        .unwrap();
    assert_eq!(expected.next(), None, "a row of a batch is missing");
    for row in 0..ROWS {
        let lease = engine.get(Table::Leases, &row.to_be_bytes()).unwrap();
        assert_eq!(lease.as_deref(), Some(&last.to_be_bytes()[..]));
    }
}

fn kill_and_look(kind: StorageEngine) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db-1");
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..6 {
        let mut child = start(kind, &dir);
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut written = output.lines().filter_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("written ")
                .map(|number| number.parse().unwrap())
        });
        let acknowledged: Option<u64> = written.by_ref().take(rng.random_range(2..30)).last();
        std::thread::sleep(std::time::Duration::from_micros(rng.random_range(0..5000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = written.last().or(acknowledged);
        check(&*open_in(kind, &dir), acknowledged);
    }
}

#[test]
fn lmdb_survives_kill_9() {
    kill_and_look(StorageEngine::Lmdb);
}

#[test]
fn sled_survives_kill_9() {
    kill_and_look(StorageEngine::Sled);
}
