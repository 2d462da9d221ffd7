//! The role by a data directory, and the lock of a proxy's.

use super::*;

#[test]
fn the_directory_decides() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Role::of(&dir.path().join("none")).unwrap(), Role::Undecided);
    assert_eq!(Role::of(dir.path()).unwrap(), Role::Undecided);
    fs::create_dir(dir.path().join("proxy")).unwrap();
    assert_eq!(Role::of(dir.path()).unwrap(), Role::Proxy);
    fs::create_dir(dir.path().join("member")).unwrap();
    let both = Role::of(dir.path()).unwrap_err();
    let etcds = "invalid datadir. Both member and proxy directories exist.";
    assert_eq!(both.to_string(), etcds);
    fs::remove_dir(dir.path().join("proxy")).unwrap();
    assert_eq!(Role::of(dir.path()).unwrap(), Role::Member);
    assert!(ClusterFile::open(dir.path()).is_err());
}

#[test]
fn one_process_at_a_time_has_a_proxys_directory() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Lock::take(dir.path()), Err(RoleError::Io { .. })));
    let file = ClusterFile::open(dir.path()).unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    let refused = Lock::take(dir.path()).unwrap_err();
    assert!(matches!(refused, RoleError::InUse(_)), "{refused}");
    // What is saved meanwhile does not end it.
    file.save(&["http://a:1".to_owned()]).unwrap();
    assert!(Lock::take(dir.path()).is_err());
    drop(lock);
    Lock::take(dir.path()).unwrap();
}

/// NFS refuses with EBADF to lock what is not open for writing, and a directory cannot be.
#[test]
fn a_directory_that_cannot_be_locked_is_used_all_the_same() {
    let dir = Path::new("proxy");
    let refused = io::Error::from_raw_os_error(9);
    assert!(is_locked(Err(TryLockError::Error(refused)), dir));
    assert!(is_locked(Ok(()), dir));
    assert!(!is_locked(Err(TryLockError::WouldBlock), dir));
}

#[test]
fn the_cluster_file_is_etcds() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("proxy.etcd");
    let file = ClusterFile::open(&data_dir).unwrap();
    assert_eq!(Role::of(&data_dir).unwrap(), Role::Proxy);
    assert_eq!(file.load().unwrap(), None);
    assert!(!has_cluster_file(&data_dir).unwrap());
    file.save(&["http://127.0.0.1:23801".to_owned()]).unwrap();
    let path = data_dir.join("proxy/cluster");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, r#"{"PeerURLs":["http://127.0.0.1:23801"]}"#);
    assert!(has_cluster_file(&data_dir).unwrap());
    let again = ClusterFile::open(&data_dir).unwrap();
    assert_eq!(again.load().unwrap().unwrap(), ["http://127.0.0.1:23801"]);
    // etcd 2 saved an empty list before it had fetched the members.
    fs::write(&path, r#"{"PeerURLs":[]}"#).unwrap();
    assert_eq!(file.load().unwrap(), None);
    fs::write(&path, "{").unwrap();
    assert!(matches!(file.load(), Err(RoleError::Malformed { .. })));
}

#[test]
fn what_was_open_or_a_link_is_private_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = dir.path().join("proxy");
    fs::create_dir(&proxy).unwrap();
    fs::set_permissions(&proxy, Permissions::from_mode(0o755)).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    std::os::unix::fs::symlink(&elsewhere, proxy.join("cluster.bak")).unwrap();
    let file = ClusterFile::open(dir.path()).unwrap();
    file.save(&["http://a:2380".to_owned()]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&proxy), mode(&file.path)), (0o700, 0o600));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
}

/// After a crash the host would be a new one, and discovery could make it a member.
#[test]
fn a_new_directory_is_durable_in_each_of_its_parents() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = dir.path().join("a/data/proxy");
    let synced = || {
        let mut synced = Vec::new();
        create_private_dir(&proxy, &mut |parent| {
            synced.push(parent.to_owned());
            Ok(())
        })
        .unwrap();
        synced
    };
    let (a, data) = (dir.path().join("a"), dir.path().join("a/data"));
    assert_eq!(synced(), [dir.path(), &a, &data]);
    assert_eq!(synced(), [data], "its maker may have ended before");
    let failed = create_private_dir(&proxy, &mut |_| Err(io::ErrorKind::StorageFull.into()));
    assert!(failed.is_err());
    assert_eq!(parent_of(Path::new("proxy")), Path::new("."));
}
