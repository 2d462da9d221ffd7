//! The log on a real disk.

use super::*;
use crate::disk::RealDisk;

type Opened = Result<(Wal<RealDisk>, Recovered), WalError>;

fn open_real(dir: &Path, identity: Identity) -> Opened {
    Wal::create_or_open(Arc::new(RealDisk), dir, identity, WalConfig::default())
}

#[test]
fn lives_in_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("member/wal");
    assert_eq!(Wal::identity(&RealDisk, &dir).unwrap(), None);
    let (mut wal, recovered) = open_real(&dir, IDENTITY).unwrap();
    assert_eq!(recovered.boot, 1);
    wal.append(None, &entries(1, 9, 4, 0), None).unwrap();
    wal.sync().unwrap();
    assert!(wal.prepare_next().unwrap());
    drop(wal);
    assert_eq!(Wal::identity(&RealDisk, &dir).unwrap(), Some(IDENTITY));
    let (wal, recovered) = open_real(&dir, IDENTITY).unwrap();
    assert_eq!(recovered.boot, 2);
    assert_eq!(recovered.entries, entries(1, 9, 4, 0));
    assert_eq!(recovered.repaired, None);
    assert_eq!(wal.last_index(), Index(9));
}

#[test]
fn two_cannot_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open_real(dir.path(), IDENTITY).unwrap();
    let error = open_real(dir.path(), IDENTITY).err().expect("it is in use");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
}

#[test]
fn two_cannot_open_it_although_the_lock_file_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open_real(dir.path(), IDENTITY).unwrap();
    for round in 0..2 {
        std::fs::remove_file(dir.path().join("lock")).unwrap();
        let error = open_real(dir.path(), IDENTITY).err().expect("it is in use");
        assert!(matches!(error, WalError::Locked { .. }), "{error}");
        // A large batch makes the log continue in another segment, which is locked too.
        let mut large = entries(1 + round, 1, 1, 0);
        large[0].data = Bytes::from(vec![1; 17 << 20]);
        wal.append(None, &large, None).unwrap();
        wal.sync().unwrap();
    }
}

#[test]
fn what_it_makes_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let wal_dir = dir.path().join("member/wal");
    std::fs::create_dir(dir.path().join("member")).unwrap();
    let (mut wal, _) = open_real(&wal_dir, IDENTITY).unwrap();
    while wal.prepare_next().unwrap() {}
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&wal_dir), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&wal_dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 3, "the segment, the next one, the lock");
}

#[test]
fn a_planted_link_is_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let wal_dir = dir.path().join("wal");
    drop(open_real(&wal_dir, IDENTITY).unwrap());
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, "untouched").unwrap();
    for name in ["spare-0000000000000000", "spare-0000000000000001"] {
        let _ = std::fs::remove_file(wal_dir.join(name));
        std::os::unix::fs::symlink(&elsewhere, wal_dir.join(name)).unwrap();
    }
    let (mut wal, _) = open_real(&wal_dir, IDENTITY).unwrap();
    while wal.prepare_next().unwrap() {}
    drop(wal);
    std::fs::remove_file(wal_dir.join("lock")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, wal_dir.join("lock")).unwrap();
    let error = open_real(&wal_dir, IDENTITY)
        .err()
        .expect("the lock is a link");
    assert!(matches!(error, WalError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "untouched");
}

#[test]
fn somebody_elses_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_real(dir.path(), IDENTITY).unwrap());
    let other = Identity {
        cluster: ClusterId(0xc2),
        ..IDENTITY
    };
    let error = open_real(dir.path(), other)
        .err()
        .expect("it is another's")
        .to_string();
    assert!(
        error.contains("belongs to cluster c1 member a1, not cluster c2 member a1"),
        "{error}"
    );
}
