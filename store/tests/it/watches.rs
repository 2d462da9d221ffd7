//! Watches of programs that embed a member.

use std::time::Duration;

use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keelson_store::{Config, Error, KeyWatch};
use tokio::time::timeout;

use crate::embedded::{open_one, put};
use crate::leases::LONG;

/// The puts of the test, each at a revision of its own.
const PUTS: i64 = 300;

fn revision(message: &WatchResponse) -> i64 {
    message.header.as_ref().expect("a header").revision
}

fn is_progress(message: &WatchResponse) -> bool {
    message.events.is_empty() && !message.canceled && !message.created
}

/// The next progress. Every message before it has an event of each revision.
async fn progress(watch: &mut KeyWatch, seen: &mut i64) -> Result<i64, Error> {
    loop {
        let message = watch.next().await?;
        for event in &message.events {
            let put = event.kv.as_ref().expect("a pair").mod_revision;
            assert_eq!(put, *seen + 1);
            *seen = put;
        }
        if is_progress(&message) {
            return Ok(revision(&message));
        }
    }
}

/// `progress_notify` was accepted and ignored.
#[tokio::test(flavor = "multi_thread")]
async fn progress_never_names_a_revision_whose_events_were_not_returned() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        watch_progress_interval_ms: 1,
        unsafe_no_fsync: true,
        ..Config::single("alone", dir.path())
    };
    let store = open_one(config).await?;
    store.ready().await;
    let create = {
        let store = store.clone();
        move || {
            store.watch(WatchCreateRequest {
                key: "k".into(),
                progress_notify: true,
                ..WatchCreateRequest::default()
            })
        }
    };
    // On a thread of no runtime, where it panicked.
    let mut watch = std::thread::spawn(create).join().expect("a watch");
    let created = watch.next().await?;
    assert!(created.created);
    let began = revision(&created);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..PUTS {
                store.put(put("k", &number.to_string())).await?;
            }
            Ok::<_, Error>(())
        }
    });
    let mut seen = began;
    let followed = async {
        while seen < began + PUTS {
            watch.request_progress();
            let named = progress(&mut watch, &mut seen).await?;
            assert_eq!(named, seen);
        }
        // Without a request: that of the timer, of which no more than one may be for a request.
        for _ in 0..3 {
            assert_eq!(progress(&mut watch, &mut seen).await?, seen);
        }
        Ok::<_, Error>(())
    };
    timeout(LONG, followed).await??;
    writer.await??;
    // A call that is dropped leaves the timer and the messages.
    let dropped = timeout(Duration::ZERO, watch.next()).await;
    assert!(dropped.is_err() || dropped.is_ok_and(|message| message.is_ok()));
    assert_eq!(timeout(LONG, progress(&mut watch, &mut seen)).await??, seen);
    store.shutdown().await;
    assert_eq!(watch.next().await.err(), Some(Error::Stopped));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_on_request_alone_without_the_flag() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        watch_progress_interval_ms: 1,
        ..Config::single("alone", dir.path())
    };
    let store = open_one(config).await?;
    store.ready().await;
    let request = |progress_notify| WatchCreateRequest {
        key: "k".into(),
        progress_notify,
        ..WatchCreateRequest::default()
    };
    let (mut with, mut without) = (store.watch(request(true)), store.watch(request(false)));
    assert!(with.next().await?.created && without.next().await?.created);
    // Two intervals have passed for the one, and none counts for the other.
    for _ in 0..2 {
        assert!(is_progress(&timeout(LONG, with.next()).await??));
    }
    store.put(put("k", "v")).await?;
    assert_eq!(timeout(LONG, without.next()).await??.events.len(), 1);
    without.request_progress();
    let progress = timeout(LONG, without.next()).await??;
    assert!(is_progress(&progress));
    assert_eq!(
        revision(&progress),
        store.status().header.expect("one").revision
    );
    store.shutdown().await;
    Ok(())
}
