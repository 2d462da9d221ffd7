//! Members that are opened again after the loss of a part of their data.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use keelson_port::ClientTls;
use keelson_proto::etcdserverpb::PutRequest;

use super::{identify, recover};
use crate::{Config, Store};

fn config(dir: &Path) -> Config {
    let mut config = Config::single("m1", "here");
    config.data_dir = dir.to_owned();
    config
}

async fn put(store: &Store, key: &str) {
    store.ready().await;
    let request = PutRequest {
        key: key.to_owned().into(),
        value: "x".into(),
        ..PutRequest::default()
    };
    store.put(request).await.expect("it leads");
}

/// Waits until the engine is closed.
async fn close(store: Store) {
    store.shutdown().await;
    let inner = Arc::downgrade(&store.inner);
    drop(store);
    while 0 < inner.strong_count() {
        tokio::task::yield_now().await;
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).expect("the directory");
    for entry in fs::read_dir(from).expect("the log") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// The member was taken for one that had received a snapshot, and its later votes and
/// acknowledged entries were lost.
#[tokio::test]
async fn a_log_that_is_older_than_the_engine_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("m1");
    let (wal, older) = (data.join("member/wal"), dir.path().join("older"));
    let store = Store::open(config(&data)).await.expect("a new member");
    put(&store, "a").await;
    close(store).await;
    copy(&wal, &older);
    let store = Store::open(config(&data)).await.expect("its own data");
    put(&store, "b").await;
    close(store).await;
    copy(&older, &wal);
    let refused = Store::open(config(&data)).await.err();
    let text = refused.expect("the log's end is gone").to_string();
    assert!(text.contains("an older copy"), "{text}");
    let forced = Config {
        force_new_cluster: true,
        ..config(&data)
    };
    let store = Store::open(forced).await.expect("the operator's decision");
    put(&store, "c").await;
    close(store).await;
    let store = Store::open(config(&data)).await.expect("it goes on");
    put(&store, "d").await;
    close(store).await;
}

/// The member reported to other founders that it was empty, although its log held votes.
#[tokio::test]
async fn a_member_whose_state_is_made_anew_from_its_log_is_not_new() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path());
    let begin = async || {
        let bootstrap = identify(&config, &ClientTls::default())
            .await
            .expect("its own");
        recover(&config, bootstrap).expect("it can be opened")
    };
    assert!(begin().await.is_new);
    let store = Store::open(config.clone()).await.expect("a new member");
    put(&store, "a").await;
    close(store).await;
    assert!(!begin().await.is_new);
    fs::remove_dir_all(dir.path().join("member/snap")).expect("the state");
    assert!(!begin().await.is_new);
}

/// The rights of group and others were removed from every file below, even those not the member's.
#[tokio::test]
async fn of_a_directory_for_the_log_only_the_logs_files_are_made_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = dir.path().join("shared");
    let config = Config {
        wal_dir: Some(wal.clone()),
        ..config(&dir.path().join("m1"))
    };
    let store = Store::open(config.clone()).await.expect("a new member");
    close(store).await;
    fs::create_dir(wal.join("other")).expect("it is another's");
    for other in ["other/page", "page", "page.wal"] {
        fs::write(wal.join(other), "x").expect("it is another's");
    }
    let open = |path: &Path, mode| {
        let open = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, open).expect("it is there");
    };
    for entry in wal.read_dir().expect("the log") {
        open(&entry.expect("a file").path(), 0o755);
    }
    open(&wal.join("other/page"), 0o755);
    let store = Store::open(config).await.expect("its own data");
    close(store).await;
    let private = |path: &Path| {
        let mode = fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode();
        mode & 0o077 == 0
    };
    for other in ["other", "other/page", "page", "page.wal"] {
        assert!(!private(&wal.join(other)), "{other}");
    }
    assert!(private(&wal.join("lock")));
    assert!(private(&wal.join("0000000000000001-0000000000000001.wal")));
}
