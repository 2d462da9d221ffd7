//! Members of two releases in one cluster: a rolling upgrade, and a downgrade by one minor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb::downgrade_request::DowngradeAction;
use keelson_proto::etcdserverpb::*;
use keelson_store::config::COMMAND_VERSION;
use keelson_store::{Config, Error, OpenError, StateError, Store};
use parking_lot::Mutex;

use super::membership::shut_down;
use super::{members, open, open_one, put};

/// The number of the release before.
const BEFORE: u32 = COMMAND_VERSION - 1;

/// The members that run, for a client that goes to another one when one stops.
type Running = Arc<Mutex<Vec<Option<Store>>>>;

fn of_release(command_version: u32) -> impl Fn(Config) -> Config {
    move |config| Config {
        command_version,
        heartbeat_ms: 50,
        election_ms: 500,
        ..config
    }
}

fn downgrade(action: DowngradeAction, version: &str) -> DowngradeRequest {
    DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    }
}

/// Waits until a member's status is as it should be.
async fn until(store: &Store, expected: impl Fn(&StatusResponse) -> bool) {
    while !expected(&store.status()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes one key after the other, each until it is acknowledged. Returns their number.
async fn write(running: Running, stop: Arc<AtomicBool>) -> usize {
    let mut written = 0;
    let mut tries = 0;
    while !stop.load(Ordering::Relaxed) {
        tries += 1;
        let store = {
            let running = running.lock();
            running[tries % running.len()].clone()
        };
        let key = format!("key-{written:06}");
        match store {
            Some(store) => written += usize::from(store.put(put(&key, "value")).await.is_ok()),
            None => tokio::task::yield_now().await,
        }
    }
    written
}

/// Opens a member again, once the writer has left the old one: it has its database open until then.
async fn open_again(config: Config) -> anyhow::Result<Store> {
    loop {
        match open_one(config.clone()).await {
            Err(OpenError::Engine(why)) if why.contains("already open") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// The members that run.
fn all(running: &Running) -> Vec<Store> {
    running.lock().iter().flatten().cloned().collect()
}

/// Stops one member after the other and starts it with a binary of that release.
async fn replace_all(running: &Running, configs: &[Config], release: u32) -> anyhow::Result<()> {
    for (at, config) in configs.iter().enumerate() {
        let stopped = running.lock()[at].take();
        if let Some(stopped) = stopped {
            stopped.shutdown().await;
        }
        let config = of_release(release)(config.clone());
        let store = open_again(config).await?;
        store.ready().await;
        running.lock()[at] = Some(store.clone());
        let version = downgrade(DowngradeAction::Enable, "3.3");
        if release == COMMAND_VERSION && at < configs.len() - 1 {
            let refused = store.downgrade(version).await;
            assert_eq!(refused, Err(StateError::NotEveryMember.into()));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_upgraded_and_downgraded_one_by_one_under_writes() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs: Vec<_> = members(dir.path(), 3);
    let older = configs.iter().cloned().map(of_release(BEFORE)).collect();
    let stores = open(older).await?;
    until(&stores[0], |status| status.storage_version == "3.4.0").await;
    let running = stores.into_iter().map(Some).collect();
    let running: Running = Arc::new(Mutex::new(running));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(Arc::clone(&running), Arc::clone(&stop)));
    replace_all(&running, &configs, COMMAND_VERSION).await?;
    let upgraded = all(&running);
    for store in &upgraded {
        until(store, |status| status.storage_version == "3.5.0").await;
    }
    let checked = upgraded[0]
        .downgrade(downgrade(DowngradeAction::Validate, "3.4"))
        .await?;
    assert_eq!(checked.version, "3.5.0");
    let enabled = upgraded[1]
        .downgrade(downgrade(DowngradeAction::Enable, "3.4.2"))
        .await?;
    assert_eq!(enabled.version, "3.5.0");
    let again = upgraded[2]
        .downgrade(downgrade(DowngradeAction::Validate, "3.3.0"))
        .await;
    assert_eq!(again, Err(StateError::DowngradeInProgress.into()));
    for store in &upgraded {
        // Then the release before starts on its data.
        until(store, |status| status.storage_version == "3.4.0").await;
        let info = store.status().downgrade_info.expect("it is stated");
        assert!(info.enabled && info.target_version == "3.4.0", "{info:?}");
    }
    drop(upgraded);

    replace_all(&running, &configs, BEFORE).await?;
    let stores = all(&running);
    for store in &stores {
        until(store, |status| {
            status.downgrade_info == Some(DowngradeInfo::default())
        })
        .await;
        assert_eq!(store.status().storage_version, "3.4.0");
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.await?;
    let keys = RangeRequest {
        key: Bytes::from_static(b"key-"),
        range_end: Bytes::from_static(b"key."),
        count_only: true,
        ..RangeRequest::default()
    };
    for store in &stores {
        let count = store.range(keys.clone()).await?.count;
        // The last one may have been written without an answer.
        assert!(
            (written..=written + 1).contains(&usize::try_from(count)?),
            "{count}"
        );
    }
    shut_down(&stores).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_is_refused_in_etcds_words_and_cancelled() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(Config::single("alone", dir.path())).await?;
    store.ready().await;
    until(&store, |status| status.storage_version == "3.5.0").await;
    use DowngradeAction::{Cancel, Enable, Validate};
    let wrong = |action, version| store.downgrade(downgrade(action, version));
    for (action, version, error) in [
        (Validate, "x", Error::WrongDowngradeFormat),
        (Enable, "3", Error::WrongDowngradeFormat),
        (Validate, "3.5", StateError::InvalidDowngradeTarget.into()),
        (Enable, "3.3", StateError::InvalidDowngradeTarget.into()),
        (Cancel, "", StateError::NoDowngrade.into()),
    ] {
        assert_eq!(wrong(action, version).await, Err(error), "{version}");
    }
    store.downgrade(downgrade(Enable, "3.4")).await?;
    let again = wrong(Enable, "3.3").await;
    assert_eq!(again, Err(StateError::DowngradeInProgress.into()));
    let cancelled = store.downgrade(downgrade(Cancel, "")).await?;
    assert_eq!(cancelled.version, "3.4.0");
    // All members are of this release.
    until(&store, |status| status.storage_version == "3.5.0").await;
    assert_eq!(
        store.status().downgrade_info,
        Some(DowngradeInfo::default())
    );
    store.shutdown().await;
    Ok(())
}
