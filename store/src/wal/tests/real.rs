//! The same log on the machine's own disk.

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
