//! The v2 keys of a source whose answers each test makes up: what a gateway or a slow etcd does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::*;
use crate::commands::follow::tree::{SettledTree, TreeFollower};

/// An answer of the v2 API.
struct Answer {
    status: u16,
    /// `None`: the header is missing.
    index: Option<u64>,
    /// `None`: the head is sent, and no body.
    body: Option<String>,
}

fn shows(index: u64, body: &str) -> Answer {
    Answer {
        status: 200,
        index: Some(index),
        body: Some(body.to_owned()),
    }
}

/// A listing of the directory of a file, or of the root without one. As in etcd, it has the key of
/// its directory unless that is the root.
fn lists(index: u64, file: &str) -> Answer {
    let node =
        format!(r#"{{"key":"{file}","value":"v","modifiedIndex":{index},"createdIndex":{index}}}"#);
    let nodes = if file.is_empty() { "" } else { &node };
    let key = match file.rsplit_once('/') {
        Some((directory, _)) if !directory.is_empty() => format!(r#""key":"{directory}","#),
        _ => String::new(),
    };
    let body = format!(r#"{{"action":"get","node":{{{key}"dir":true,"nodes":[{nodes}]}}}}"#);
    shows(index, &body)
}

fn sets(index: u64, key: &str) -> Answer {
    let body = format!(
        r#"{{"action":"set","node":{{"key":"{key}","value":"v","modifiedIndex":{index},
        "createdIndex":{index}}}}}"#
    );
    shows(index, &body)
}

/// No such node.
fn lacks(index: u64) -> Answer {
    Answer {
        status: 404,
        ..shows(index, r#"{"errorCode":100,"message":"Key not found"}"#)
    }
}

/// Events up to an index, and not the next one: a wait for what is there is not answered.
fn waits(index: u64) -> Answer {
    Answer {
        status: 200,
        index: Some(index),
        body: None,
    }
}

async fn answer(stream: TcpStream, answers: &(impl Fn(&str) -> Answer + Sync)) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| line != "\r\n") {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            lines.push(line);
        }
        let target = lines[0].split(' ').nth(1).unwrap_or_default();
        let Answer {
            status,
            index,
            body,
        } = answers(target);
        let index = index.map(|index| format!("X-Etcd-Index: {index}\r\n"));
        let length = body.as_ref().map_or(99, String::len);
        let head = format!(
            "HTTP/1.1 {status} X\r\n{}Content-Length: {length}\r\n\r\n{}",
            index.unwrap_or_default(),
            body.unwrap_or_default()
        );
        stream.get_mut().write_all(head.as_bytes()).await?;
    }
}

/// The URL at which the answers are given until the test ends.
async fn gateway(answers: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let answers = Arc::new(answers);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            tokio::spawn(async move { answer(stream, &*answers).await });
        }
    });
    format!("http://{at}")
}

/// A standby with `/a/kept` and `/_h/kept`, of a source that is stopped; and its plan.
async fn with_keys(dir: &Path) -> (Store, FollowPlan) {
    let (source, url) = source(dir).await;
    for path in ["/1/a/kept", "/1/_h/kept"] {
        let set = tree_change(Op::Set, path, "v", 0);
        source.tree_change(set).await.unwrap();
    }
    let arguments = FollowArguments::parse_from(["follow", "--from", &url]);
    let plan = FollowPlan {
        urls: vec![url],
        v2: true,
        hidden: Vec::new(),
        access: Arc::new(arguments.access.access().unwrap()),
    };
    let config = Config::single("standby", dir.join("standby"));
    begin::make(&config, &plan, &dir.join("part"))
        .await
        .unwrap();
    source.shutdown().await;
    let store = Store::open(config).await.unwrap();
    store.ready().await;
    store.published().await;
    (store, plan)
}

fn has(store: &Store, path: &str) -> bool {
    store.tree_node(path.as_bytes()).is_some()
}

/// Polls until something is so.
async fn polls(follower: &mut TreeFollower<'_>, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not so");
        follower.step(true).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const ROOT: &str = "/v2/keys/?quorum=true&recursive=true";

/// It waited for the next change that no event shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_fails_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (store, plan) = with_keys(dir.path()).await;
    let index = store.tree_index();
    let asked = AtomicUsize::new(0);
    let url = gateway(move |target| match target {
        ROOT if asked.fetch_add(1, Ordering::SeqCst) == 0 => Answer {
            status: 500,
            ..shows(index, "{}")
        },
        ROOT => lists(index, "/listed"),
        _ if target.contains("wait") => waits(index),
        _ => lacks(index),
    });
    let mut hidden = BTreeSet::new();
    let url = url.await;
    let mut follower = TreeFollower::new(&store, &plan, &url, &mut hidden);
    polls(&mut follower, || has(&store, "/1/listed")).await;
    assert!(!has(&store, "/1/a"));
    store.shutdown().await;
}

/// It was taken for the index 0: the tree was wiped at every poll.
#[tokio::test(flavor = "multi_thread")]
async fn answers_without_an_index_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, plan) = with_keys(dir.path()).await;
    let before = store.tree_index();
    let url = gateway(move |target| Answer {
        index: None,
        ..match target.contains("wait") {
            true => waits(before),
            false => lists(before, ""),
        }
    });
    let mut hidden = BTreeSet::new();
    let url = url.await;
    let mut follower = TreeFollower::new(&store, &plan, &url, &mut hidden);
    follower.step(true).await;
    assert!(follower.settle(false).await.is_err());
    assert!(has(&store, "/1/a/kept") && has(&store, "/1/_h/kept"));
    assert_eq!(store.tree_index(), before);
    store.shutdown().await;
}

/// Under the fence every hidden node was read again; and a renewal between two listings was taken
/// for compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_over_compares_only_what_events_have_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (store, plan) = with_keys(dir.path()).await;
    let first = store.tree_index();
    let listed = Arc::new(AtomicUsize::new(0));
    let renewed = Arc::new(AtomicUsize::new(0));
    let (counted, renewals) = (Arc::clone(&listed), Arc::clone(&renewed));
    let url = gateway(move |target| {
        // An index without an event for every listing of the hidden directory, once that is on.
        let at = renewals.load(Ordering::SeqCst) as u64;
        let index = first + at;
        match target {
            _ if target.contains("wait") => waits(index),
            _ if target.contains("_keelson_follow") => lacks(index),
            ROOT => {
                counted.fetch_add(1, Ordering::SeqCst);
                lists(index, "/a")
            }
            _ if 0 < at => {
                renewals.fetch_add(1, Ordering::SeqCst);
                lists(index + 1, "/_h/kept")
            }
            _ => lists(index, "/_h/kept"),
        }
    });
    let mut hidden = BTreeSet::new();
    let url = url.await;
    let mut follower = TreeFollower::new(&store, &plan, &url, &mut hidden);
    let settled = |index, is_whole| Some(SettledTree { index, is_whole });
    assert_eq!(follower.settle(false).await.unwrap(), settled(first, true));
    assert_eq!(follower.settle(true).await.unwrap(), settled(first, true));
    assert_eq!(listed.load(Ordering::SeqCst), 1);
    renewed.store(1, Ordering::SeqCst);
    let busy = follower.settle(true).await.unwrap().unwrap();
    assert!(!busy.is_whole && first < busy.index, "{busy:?}");
    store.shutdown().await;
}

/// The keys were gone until the next comparison, and hidden ones for good.
#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_when_the_history_begins_later() {
    let dir = tempfile::tempdir().unwrap();
    let (store, plan) = with_keys(dir.path()).await;
    let before = store.tree_index();
    let index = before + 5000;
    let lists_now = Arc::new(AtomicUsize::new(0));
    let allowed = Arc::clone(&lists_now);
    let url = gateway(move |target| match target {
        _ if target.ends_with(&format!("waitIndex={index}")) => sets(index, "/new"),
        _ if target.ends_with(&format!("waitIndex={}", index + 1)) => waits(index),
        _ if target.contains("wait") => Answer {
            status: 400,
            ..shows(
                index,
                &format!(r#"{{"errorCode":401,"cause":"cleared [{index}/1]"}}"#),
            )
        },
        _ if allowed.load(Ordering::SeqCst) == 0 => Answer {
            status: 500,
            ..shows(index, "{}")
        },
        ROOT => lists(index, "/new"),
        _ if target.starts_with("/v2/keys/_h?") => lists(index, "/_h/kept"),
        _ => lacks(index),
    });
    let mut hidden = BTreeSet::new();
    let url = url.await;
    let mut follower = TreeFollower::new(&store, &plan, &url, &mut hidden);
    polls(&mut follower, || store.tree_index() == index).await;
    assert!(has(&store, "/1/a/kept") && has(&store, "/1/_h/kept") && has(&store, "/1/new"));
    lists_now.store(1, Ordering::SeqCst);
    polls(&mut follower, || !has(&store, "/1/a")).await;
    assert!(has(&store, "/1/_h/kept") && has(&store, "/1/new"));
    store.shutdown().await;
}

/// A hidden key was lost: no listing shows it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_late_once_is_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (store, plan) = with_keys(dir.path()).await;
    let index = store.tree_index() + 1;
    let waited = AtomicUsize::new(0);
    let url = gateway(move |target| match target {
        ROOT => lists(index, ""),
        _ if target.ends_with(&format!("waitIndex={}", index + 1)) => waits(index),
        _ if target.contains("wait") => match waited.fetch_add(1, Ordering::SeqCst) {
            0 => waits(index),
            _ => sets(index, "/_late"),
        },
        _ if target.starts_with("/v2/keys/_late?") => shows(
            index,
            &format!(
                r#"{{"action":"get","node":{{"key":"/_late","value":"v","modifiedIndex":{index},
                "createdIndex":{index}}}}}"#
            ),
        ),
        _ => lacks(index),
    });
    let mut hidden = BTreeSet::new();
    let url = url.await;
    let mut follower = TreeFollower::new(&store, &plan, &url, &mut hidden);
    let settled = follower.settle(false).await.unwrap().unwrap();
    assert_eq!(settled.index, index);
    assert!(has(&store, "/1/_late"));
    store.shutdown().await;
}
