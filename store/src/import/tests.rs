//! Imports of directories that a crash or a disk has left incomplete.

mod written;

use std::path::Path;

use self::written::{EtcdDirectory, LogBuilder};
use super::log::EtcdLog;
use super::{ImportError, Imported, import};
use crate::Config;

/// Frames of 50 entries, of which the first 40 are known to be committed.
fn log() -> LogBuilder {
    let mut log = LogBuilder::default();
    (1..=50).for_each(|index| log.entry(index));
    log.state(40);
    log
}

/// What is read of these bytes of a log's only segment.
fn open(dir: &Path, bytes: &[u8]) -> Result<EtcdLog, ImportError> {
    std::fs::write(dir.join("0000000000000000-0000000000000000.wal"), bytes).unwrap();
    EtcdLog::open(dir)
}

fn indexes(log: &EtcdLog, index: u64, end: u64) -> Vec<u64> {
    let entries = log.entries(index, end).unwrap();
    entries.map(|entry| entry.unwrap().index).collect()
}

/// Found: only the begin of the log was compared with what is held.
#[test]
fn a_log_that_ends_before_the_commit_has_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &log().bytes).unwrap();
    assert_eq!(log.commit, 40);
    assert_eq!(indexes(&log, 30, 40), Vec::from_iter(31..=40));
    assert_eq!(indexes(&log, 60, 60), [] as [u64; 0]);
    let gap = log.entries(40, 1000).err().unwrap().to_string();
    assert_eq!(
        gap,
        "entries 41 to 1000 were committed, and the log has 1 to 50: files or records are \
         missing. Import the directory of another member"
    );
    let empty = open(dir.path(), &[]).unwrap();
    let gap = empty.entries(0, 1).err().unwrap().to_string();
    assert!(gap.contains("the log has none"), "{gap}");
}

fn imported(etcd: &EtcdDirectory) -> Result<Imported, ImportError> {
    let to = tempfile::tempdir().unwrap();
    let config = Config::single("m", to.path().join("new"));
    import(etcd.path(), None, &config)
}

/// etcd was killed between the two steps with which it takes over a leader's snapshot.
#[test]
fn a_database_that_a_leader_has_sent_is_used() {
    let etcd = EtcdDirectory::new();
    etcd.database("db", 100, 7);
    etcd.v2(1000, "3.5.0");
    let mut log = LogBuilder::default();
    (90..=100).for_each(|index| log.entry(index));
    log.state(1000);
    etcd.log(&log.bytes);
    let gap = imported(&etcd).unwrap_err();
    assert!(
        matches!(
            gap,
            ImportError::Gap {
                holds: 100,
                end: 1000,
                log: Some((90, 100))
            }
        ),
        "{gap}"
    );
    // The hard state may be older: the snapshot itself is a commit.
    log.state(100);
    etcd.log(&log.bytes);
    assert!(matches!(imported(&etcd), Err(ImportError::Gap { .. })));
    etcd.database("00000000000003e8.snap.db", 1000, 77);
    let imported = imported(&etcd).unwrap();
    assert_eq!((imported.revision, imported.entries), (77, 0));
    assert_eq!(imported.v2_index, 1000);
}

/// Found: the last write was lost, which etcd had acknowledged before its hard state had it.
#[test]
fn the_only_member_has_committed_its_whole_log() {
    let etcd = EtcdDirectory::new();
    etcd.log(&log().bytes);
    for (members, entries) in [(1, 40), (3, 30)] {
        etcd.members.set(members);
        etcd.database("db", 10, 7);
        etcd.v2(10, "3.4.0");
        assert_eq!(imported(&etcd).unwrap().entries, entries, "{members}");
    }
}

/// Found: an etcd up to 3.4.20 or 3.5.4 applies entries before its log has them, and was refused.
#[test]
fn a_database_may_be_ahead_of_the_log() {
    let etcd = EtcdDirectory::new();
    etcd.v2(10, "3.4.0");
    for members in [1, 3] {
        etcd.members.set(members);
        etcd.log(&log().bytes);
        etcd.database("db", 55, 7);
        let ahead = imported(&etcd).unwrap();
        assert_eq!((ahead.entries, ahead.beyond_log), (40, 5), "{members}");
        etcd.database("db", 50, 7);
        let equal = imported(&etcd).unwrap();
        assert_eq!((equal.entries, equal.beyond_log), (40, 0), "{members}");
    }
    // A commit is no part of a database.
    let mut log = log();
    log.state(52);
    etcd.log(&log.bytes);
    etcd.database("db", 55, 7);
    let gap = imported(&etcd).unwrap_err();
    assert!(matches!(gap, ImportError::Gap { end: 52, .. }), "{gap}");
    etcd.log(&[]);
    let gap = imported(&etcd).unwrap_err();
    assert!(matches!(gap, ImportError::Gap { end: 55, .. }), "{gap}");
}

/// Found: without a database the whole log was demanded, which a long-lived etcd 2 has removed.
#[test]
fn an_etcd_2_needs_its_log_from_its_snapshot_on() {
    let etcd = EtcdDirectory::new();
    etcd.v2(1000, "2.3.0");
    let mut log = LogBuilder::default();
    (900..=1005).for_each(|index| log.entry(index));
    log.state(1005);
    etcd.log(&log.bytes);
    assert_eq!(imported(&etcd).unwrap().entries, 5);
    // The database of an etcd 3 is lost.
    etcd.v2(1000, "3.4.0");
    let gap = imported(&etcd).unwrap_err();
    assert!(matches!(gap, ImportError::Gap { holds: 0, .. }), "{gap}");
}

/// Found: a damaged length ended the import as a success.
#[test]
fn a_damaged_length_is_no_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let whole = log().bytes;
    let end = whole.len();
    for (place, preallocated) in [(20, 0), (20, 4096), (49, 0), (49, 4096)] {
        let at = log().begins[place];
        for bit in 0..64 {
            let mut bytes = whole.clone();
            bytes[at + bit / 8] ^= 1 << (bit % 8);
            bytes.resize(end + preallocated, 0);
            match open(dir.path(), &bytes) {
                Err(ImportError::Damaged { .. }) => {}
                Err(error) => panic!("bit {bit} of {place}: {error}"),
                // These bits are in no length.
                Ok(log) => assert_eq!(
                    (log.commit, indexes(&log, 0, 50).len(), log.unread),
                    (40, 50, None),
                    "bit {bit} of {place}"
                ),
            }
        }
    }
}

/// A length in the sectors that were lost with the begin of its record.
#[test]
fn damage_before_whole_records_is_no_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = log().bytes;
    let begins = log().begins;
    bytes[begins[20]..begins[23]].fill(0x7f);
    assert!(matches!(
        open(dir.path(), &bytes),
        Err(ImportError::Damaged { .. })
    ));
}

/// Writes of 20 entries each, each with a hard state that has the entries before as committed;
/// and the last one of 300 entries.
fn writes() -> LogBuilder {
    let mut log = LogBuilder::default();
    for index in 1..=500 {
        log.entry(index);
        if index <= 200 && index % 20 == 0 {
            log.state(index - 20);
        }
    }
    log.state(200);
    log
}

/// Found: the entries behind were left out, and the import was a success.
#[test]
fn a_hole_before_a_commit_is_no_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let whole = writes();
    // A page from a frame's begin on, and a sector whose begin is in a record.
    let begin = whole.begins[60];
    let sector = begin.next_multiple_of(512);
    let in_record = |at: usize| {
        whole
            .begins
            .iter()
            .all(|begin| !(at - 9..=at).contains(begin))
    };
    let mut sectors = (sector..).step_by(512);
    let sector = sectors.find(|at| in_record(*at)).unwrap();
    for (at, bytes) in [(begin, 4096), (sector, 512)] {
        let mut holed = whole.bytes.clone();
        holed[at..at + bytes].fill(0);
        match open(dir.path(), &holed) {
            Err(ImportError::Damaged { what, .. }) => {
                assert!(what.contains("a hole, behind which entry 200"), "{what}");
            }
            Err(error) => panic!("{at}: {error}"),
            Ok(log) => panic!("{at}: read up to {}", log.last()),
        }
    }
}

/// A power loss may keep the last sectors of a write, and lose those before.
#[test]
fn a_hole_in_the_last_write_ends_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let whole = writes();
    let at = whole.begins[300];
    let mut holed = whole.bytes.clone();
    holed[at..at + 4096].fill(0);
    let log = open(dir.path(), &holed).unwrap();
    assert_eq!((log.last(), log.commit), (290, 180));
    let unread = log.unread.map(|unread| unread.offset);
    assert_eq!(unread, Some(at as u64));
}

/// As etcd does; but what is left out is stated.
#[test]
fn a_record_that_was_cut_off_ends_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let whole = log().bytes;
    let (last, state) = (log().begins[49], log().begins[50]);
    for cut in last..state {
        let log = open(dir.path(), &whole[..cut]).unwrap();
        assert_eq!(indexes(&log, 0, 49).len(), 49, "cut at {cut}");
        let unread = log.unread.map(|unread| (unread.offset, unread.bytes));
        let end = whole[..cut].iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let expected = (last < end).then(|| (last as u64, (end - last) as u64));
        assert_eq!(unread, expected, "cut at {cut}");
    }
    let mut preallocated = whole;
    preallocated.resize(1 << 20, 0);
    let log = open(dir.path(), &preallocated).unwrap();
    assert_eq!((indexes(&log, 0, 50).len(), log.unread), (50, None));
}
