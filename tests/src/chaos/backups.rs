//! Snapshots that are taken during the faults, each checked by the history of all writes: it must
//! be one revision of it, with nothing missing and nothing more.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use keelson_bolt::{Database, Row};
use keelson_proto::etcdserverpb::SnapshotRequest;
use keelson_proto::mvccpb::event::EventType;
use keelson_proto::mvccpb::{Event, KeyValue};
use keelson_store::snapshot::{self, RestoreOptions, SnapshotFile, hash_kv};
use keelson_store::{Config, Store};
use prost::Message;
use tokio::task::JoinSet;

use crate::check::watch::EventLog;
use crate::proc::client;

/// Members that are open at once to check what was restored.
const RESTORED_AT_ONCE: usize = 4;
/// The pause between two snapshots of a member.
const PAUSE: Duration = Duration::from_millis(300);

/// Clients that save snapshots of members, one after the other.
#[derive(Debug)]
pub struct Savers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<PathBuf>>,
}

impl Savers {
    /// Starts one for each member; the files are in directories of `dir`.
    pub fn start(urls: &[String], dir: &Path) -> Savers {
        let mut savers = Savers {
            stop: Arc::default(),
            tasks: JoinSet::new(),
        };
        for (number, url) in urls.iter().enumerate() {
            let (url, stop) = (url.clone(), Arc::clone(&savers.stop));
            let file = dir.join(format!("saved-{number}-"));
            savers.tasks.spawn(async move {
                let mut files = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let mut file = file.clone().into_os_string();
                    file.push(format!("{:04}.db", files.len()));
                    // A member that is dead, or dies meanwhile, has no whole one.
                    if save(&url, Path::new(&file)).await.is_ok() {
                        files.push(file.into());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                files
            });
        }
        savers
    }

    /// Ends them; returns the files of each member, in order.
    pub async fn stop(mut self) -> Vec<Vec<PathBuf>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(files) = self.tasks.join_next().await {
            all.push(files.expect("it does not panic"));
        }
        all
    }
}

/// `Maintenance.Snapshot` into a file.
async fn save(url: &str, path: &Path) -> Result<()> {
    let mut member = client::maintenance(url).await?;
    let mut pieces = member.snapshot(SnapshotRequest {}).await?.into_inner();
    let mut file = File::create(path)?;
    while let Some(piece) = pieces.message().await? {
        file.write_all(&piece.blob)?;
    }
    Ok(())
}

/// Checks a snapshot of a member that was never compacted; returns its revision. The rows are read
/// without the code that writes and restores snapshots.
///
/// # Errors
/// It is not whole, or differs from the history up to its revision.
pub fn check(path: &Path, history: &EventLog) -> Result<i64> {
    SnapshotFile::open(path)?.check_sum()?;
    let bytes = std::fs::read(path)?;
    let database = Database::open(&bytes[..])?;
    let mut rows = database.bucket(b"key")?.context("no bucket `key`")?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(event(&row)?);
    }
    let revision = found.last().map_or(1, |(revision, _)| *revision);
    let mut expected = history.events(2, revision);
    for (revision, event) in &found {
        let expected = expected.next();
        let same = expected
            .is_some_and(|expected| (expected.r#type, &expected.kv) == (event.r#type, &event.kv));
        ensure!(
            same,
            "at revision {revision}: {event:?}, and not {expected:?}"
        );
    }
    let missing = expected.next();
    ensure!(missing.is_none(), "up to {revision}, without {missing:?}");
    Ok(revision)
}

/// Restores each snapshot into a data directory of its own, opens a member on it, and compares its
/// HashKV with the file's.
///
/// # Errors
/// One cannot be restored or opened, or the member has something else.
pub async fn restore_each(files: Vec<PathBuf>) -> Result<()> {
    let (mut files, mut restored) = (files.into_iter(), JoinSet::new());
    loop {
        let free = RESTORED_AT_ONCE - restored.len();
        for file in files.by_ref().take(free) {
            restored.spawn(async move {
                let restored = restore(&file).await;
                restored.with_context(|| file.display().to_string())
            });
        }
        match restored.join_next().await {
            Some(restored) => restored??,
            None => return Ok(()),
        }
    }
}

async fn restore(path: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = SnapshotFile::open(path)?;
    let expected = hash_kv(&file, 0)?;
    let config = Config::single("restored", dir.path().join("data"));
    let options = RestoreOptions {
        bump_revision: 0,
        mark_compacted: false,
    };
    let restored = snapshot::restore(&file, &config, options)?;
    ensure!(restored.revision == expected.hash_revision, "{restored:?}");
    let store = Store::open(config).await?;
    store.ready().await;
    let hash = store.hash_kv(0).await?;
    store.shutdown().await;
    let (found, expected) = (
        (hash.hash, hash.hash_revision),
        (expected.hash, expected.hash_revision),
    );
    ensure!(found == expected, "{found:?}, and not {expected:?}");
    Ok(())
}

/// What a row of etcd's bucket `key` states: its revision and the event.
fn event(row: &Row) -> Result<(i64, Event)> {
    let main = row.key.first_chunk().context("a short key")?;
    let main = i64::from_be_bytes(*main);
    let pair = KeyValue::decode(row.value.clone())?;
    let (kind, kv) = match row.key.get(17..).context("a short key")? {
        b"" => (EventType::Put, pair),
        b"t" => {
            // Such a row has the key alone.
            let mod_revision = main;
            let key: Bytes = pair.key;
            let deleted = KeyValue {
                key,
                mod_revision,
                ..KeyValue::default()
            };
            (EventType::Delete, deleted)
        }
        other => anyhow::bail!("revision {main} has the mark {other:?}"),
    };
    ensure!(kv.mod_revision == main, "revision {main} has {kv:?}");
    let event = Event {
        r#type: kind.into(),
        kv: Some(kv),
        ..Event::default()
    };
    Ok((main, event))
}
