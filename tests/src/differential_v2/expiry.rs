//! Keys with a TTL, compared only when no server can be about to delete them: well before the end,
//! and two seconds after it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::report::Summary;
use super::run::Pair;
use super::subject::Through;
use crate::http::Request;

/// When the one-second keys are gone: etcd checks every half second, and so must ours.
const GONE: Duration = Duration::from_secs(3);

/// When the four-second keys are gone.
const LATER: Duration = Duration::from_secs(6);

/// Keys and directories with a TTL of one second or four, written at once.
const WRITES: [(&str, &str, &str); 16] = [
    ("PUT", "/keep", "value=1"),
    ("PUT", "/short", "value=1&ttl=1"),
    ("PUT", "/dir?dir=true&ttl=1", ""),
    ("PUT", "/dir/child", "value=1"),
    ("PUT", "/dir/_hidden", "value=1"),
    ("PUT", "/dir/own", "value=1&ttl=4"),
    ("PUT", "/_hidden/short", "value=1&ttl=1"),
    ("POST", "/queue", "value=1&ttl=1"),
    ("PUT", "/parent/made", "value=1&ttl=1"),
    // Renewed, made permanent, and shortened before their end.
    ("PUT", "/renewed", "value=1&ttl=1"),
    ("PUT", "/renewed", "value=2&ttl=4"),
    ("PUT", "/permanent", "value=1&ttl=1"),
    ("PUT", "/permanent?prevExist=true", "value=2"),
    ("PUT", "/refreshed", "value=1&ttl=1"),
    ("PUT", "/refreshed?refresh=true&prevExist=true", "ttl=4"),
    ("PUT", "/shortened?prevIndex=0", "value=1&ttl=1000"),
];

/// Watchers that are registered before, and receive the expiries.
const WATCHERS: [&str; 9] = [
    "/short?wait=true",
    "/short?wait=true&stream=true",
    "/dir?wait=true",
    "/dir/child?wait=true",
    "/dir/own?wait=true&stream=true",
    "/dir/none/below?wait=true",
    "/_hidden?wait=true&recursive=true",
    "/queue?wait=true&recursive=true&stream=true",
    "/keep?wait=true",
];

/// Reads of everything.
const READS: [&str; 14] = [
    "/?recursive=true&sorted=true",
    "/short",
    "/dir",
    "/dir/child",
    "/dir/own",
    "/_hidden?recursive=true",
    "/queue?recursive=true",
    "/parent?recursive=true",
    "/renewed",
    "/permanent",
    "/refreshed",
    "/refreshed?quorum=true",
    "/shortened",
    "/short?wait=true&waitIndex=1&recursive=true",
];

/// Runs the scenario on both binaries.
///
/// # Errors
/// A server does not start, ends, or answers differ.
pub async fn run(ours: &Path, theirs: &Path, through: Through) -> Result<Summary> {
    let mut pair = Pair::start(ours, theirs, through).await?;
    let begin = Instant::now();
    let writes = WRITES.map(|(method, target, form)| key(method, target).form(form));
    for write in &writes {
        let _ = pair.ask(write).await;
    }
    read(&mut pair).await;
    tokio::time::sleep_until((begin + GONE).into()).await;
    read(&mut pair).await;
    // Keys that end at the same time are deleted in the same order, and so are the events.
    tokio::time::sleep_until((begin + LATER).into()).await;
    read(&mut pair).await;
    events(&mut pair).await;
    watched(&mut pair).await;
    pair.alive()?;
    pair.finish("expiry")
}

fn key(method: &str, target: &str) -> Request {
    Request::new(method, format!("/v2/keys{target}"))
}

async fn read(pair: &mut Pair) {
    for target in READS {
        pair.number += 1;
        let _ = pair.ask(&key("GET", target)).await;
    }
}

/// Compares every event of the history by its index, up to the last one requested.
async fn events(pair: &mut Pair) {
    let Some(last) = pair.theirs.index().await else {
        return;
    };
    for since in 1..=last {
        pair.number += 1;
        let target = format!("/?wait=true&recursive=true&waitIndex={since}");
        pair.watch(&[key("GET", &target)], &[], |_| {}).await;
    }
}

/// Watchers of keys and of directories that expire while they are watched.
async fn watched(pair: &mut Pair) {
    let watchers = WATCHERS.map(|target| key("GET", target));
    let mut writes: Vec<Request> = WRITES[..9]
        .iter()
        .map(|(method, target, form)| key(method, target).form(form))
        .collect();
    // Nothing is compared before the time is up.
    writes.retain(|write| !write.target.ends_with(b"/keep"));
    pair.watch_for(&watchers, &writes, GONE).await;
}
