//! The role by a data directory, and the lock of a proxy's.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn the_directory_decides() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        DirectoryRole::of(&dir.path().join("none")).unwrap(),
        DirectoryRole::Undecided
    );
    assert_eq!(
        DirectoryRole::of(dir.path()).unwrap(),
        DirectoryRole::Undecided
    );
    fs::create_dir(dir.path().join("proxy")).unwrap();
    assert_eq!(DirectoryRole::of(dir.path()).unwrap(), DirectoryRole::Proxy);
    fs::create_dir(dir.path().join("member")).unwrap();
    let both = DirectoryRole::of(dir.path()).unwrap_err();
    let etcds = "invalid datadir. Both member and proxy directories exist.";
    assert_eq!(both.to_string(), etcds);
    fs::remove_dir(dir.path().join("proxy")).unwrap();
    assert_eq!(
        DirectoryRole::of(dir.path()).unwrap(),
        DirectoryRole::Member
    );
    assert!(ClusterFile::open(dir.path()).is_err());
}

#[test]
fn one_process_at_a_time_has_a_proxys_directory() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(lock(dir.path()), Err(DirectoryError::Io { .. })));
    let file = ClusterFile::open(dir.path()).unwrap();
    let held = lock(dir.path()).unwrap();
    let refused = lock(dir.path()).unwrap_err();
    assert!(matches!(refused, DirectoryError::InUse(_)), "{refused}");
    // What is saved meanwhile does not end it.
    file.save(&["http://a:1".to_owned()]).unwrap();
    assert!(lock(dir.path()).is_err());
    drop(held);
    lock(dir.path()).unwrap();
}

#[test]
fn the_cluster_file_is_etcds() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("proxy.etcd");
    let file = ClusterFile::open(&data_dir).unwrap();
    assert_eq!(DirectoryRole::of(&data_dir).unwrap(), DirectoryRole::Proxy);
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
    assert!(matches!(file.load(), Err(DirectoryError::Malformed { .. })));
}

#[test]
fn what_was_open_or_a_link_is_private_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = dir.path().join("proxy");
    fs::create_dir(&proxy).unwrap();
    fs::set_permissions(&proxy, Permissions::from_mode(0o755)).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    std::os::unix::fs::symlink(&elsewhere, proxy.join("cluster.tmp")).unwrap();
    let file = ClusterFile::open(dir.path()).unwrap();
    file.save(&["http://a:2380".to_owned()]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&proxy), mode(&file.path)), (0o700, 0o600));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
}

#[test]
fn a_promotion_may_be_repeated_until_the_host_is_a_member() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(peer_urls_of_proxy(dir.path()).unwrap(), None);
    let file = ClusterFile::open(dir.path()).unwrap();
    assert_eq!(peer_urls_of_proxy(dir.path()).unwrap(), Some(vec![]));
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    file.save(&urls).unwrap();
    for _ in 0..2 {
        forget_proxy(dir.path()).unwrap();
        let role = DirectoryRole::of(dir.path()).unwrap();
        assert_eq!(role, DirectoryRole::Undecided);
        assert_eq!(peer_urls_of_proxy(dir.path()).unwrap().unwrap(), urls);
    }
    assert!(was_promoted(dir.path()).unwrap());
    fs::create_dir(dir.path().join("member")).unwrap();
    assert_eq!(peer_urls_of_proxy(dir.path()).unwrap(), None);
    for _ in 0..2 {
        forget_promotion(dir.path()).unwrap();
        assert!(!was_promoted(dir.path()).unwrap());
    }
}
