//! What a proxy holds: idle connections, and v2 watches that wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_tests::http::{Item, Request};
use keelson_tests::proc::usage::{self, Memory};

use super::added::proxies;
use super::front::Front;
use super::load::{V2_PATH, v2_put};
use super::plan::{Api, Plan, Way};
use crate::http1::connection::{self, Connection};
use crate::http1::host;
use crate::progress;
use crate::server::{self, Server};
use crate::table::{Table, megabytes};
/// Members of the cluster.
const MEMBERS: usize = 3;

/// How long memory is left alone before it is read.
const SETTLE: Duration = Duration::from_secs(1);

/// How long heads and events may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often all watches are looked at.
const LOOK: Duration = Duration::from_millis(50);

const COLUMNS: [&str; 10] = [
    "server",
    "way",
    "RSS at start, MB",
    "with idle connections, MB",
    "and with watches, MB",
    "anonymous of that, MB",
    "later, MB",
    "anonymous of that, MB",
    "watches answered with a head at once",
    "watches that got an event",
];

/// One proxy's figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    start: Memory,
    idle: Memory,
    watching: Memory,
    later: Memory,
    heads: usize,
    told: usize,
}

/// All cells, by server and way: the last round's.
pub type Cells = BTreeMap<(usize, Way), Outcome>;

/// Runs the part, once: memory does not depend on what else the machine does.
///
/// # Errors
/// A process does not start, or does not take the connections.
pub async fn run(plan: &Plan, servers: &[Server]) -> Result<Cells> {
    let mut cells = Cells::new();
    let progress = progress::bar(servers.len());
    for (place, server) in servers.iter().enumerate() {
        for way in proxies(plan, place) {
            progress.set_message(format!("memory: {}, {}", server.name, way.name()));
            let mut front = Front::start(plan, server, MEMBERS, &[way]).await?;
            let (url, pid) = (front.proxies[0].url.clone(), front.proxies[0].pid());
            let mut open = plan.clone();
            if !way.forwards(Api::V2, server.is_etcd()) {
                open.watches = 0;
            }
            let one = tokio::task::spawn_blocking(move || one_proxy(&open, &url, pid));
            let one = one.await.context("a client panicked")?;
            front.alive()?;
            let what = || format!("{}, {}", server.name, way.name());
            cells.insert((place, way), one.with_context(what)?);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(cells)
}

fn one_proxy(plan: &Plan, url: &str, pid: u32) -> Result<Outcome> {
    let host = host(url)?;
    let mut outcome = Outcome {
        start: settled_memory(pid)?,
        ..Outcome::default()
    };
    let waits = 0 < plan.watches;
    // Of the v3 API's proxies HTTP/1.1 gets its own health only.
    let path = if waits { V2_PATH } else { "/health" };
    let get = Request::get(path).encode(host);
    let mut idle = Vec::new();
    for _ in 0..plan.idle {
        let mut connection = Connection::open(host)?;
        let (status, _) = connection.exchange(&get)?;
        ensure!(status == 200, "a GET: HTTP {status}");
        idle.push(connection);
    }
    outcome.idle = settled_memory(pid)?;
    if !waits {
        return Ok(outcome);
    }

    let watch = Request::get(format!("{V2_PATH}?wait=true")).encode(host);
    let mut watches = Vec::new();
    for _ in 0..plan.watches {
        let mut connection = Connection::open(host)?;
        connection.send(&watch)?;
        connection.stream.set_nonblocking(true)?;
        watches.push(connection);
    }
    outcome.heads = count(&mut watches, |item| matches!(item, Item::Head(200, _)))?;
    outcome.watching = settled_memory(pid)?;
    std::thread::sleep(Duration::from_secs_f64(plan.calm));
    outcome.later = usage::memory(pid)?;

    let (status, _) = connection::once(url, &v2_put(plan))?;
    ensure!(status == 200, "a PUT: HTTP {status}");
    outcome.told = count(&mut watches, |item| matches!(item, Item::Data(_)))?;
    Ok(outcome)
}

/// Looks at the watches until all have shown such an item, or for as long as patience lasts.
/// Returns how many have.
fn count(watches: &mut [Connection], wanted: fn(&Item) -> bool) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut scratch = [0; 4096];
    let mut seen = vec![false; watches.len()];
    loop {
        for (watch, seen) in watches.iter_mut().zip(&mut seen) {
            if *seen {
                continue;
            }
            ensure!(watch.receive(&mut scratch)?, "a watch was closed");
            while let Some(item) = watch.replies.item()? {
                if wanted(&item) {
                    *seen = true;
                    break;
                }
            }
        }
        let count = seen.iter().filter(|seen| **seen).count();
        if count == watches.len() || Instant::now() > deadline {
            return Ok(count);
        }
        std::thread::sleep(LOOK);
    }
}

fn settled_memory(pid: u32) -> Result<Memory> {
    std::thread::sleep(SETTLE);
    usage::memory(pid)
}

/// The table.
pub fn markdown(plan: &Plan, servers: &[Server], cells: &Cells) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for ((server, way), outcome) in cells {
        let resident = |memory: Memory| format!("{:.1}", megabytes(memory.resident));
        if outcome.watching.resident == 0 {
            let few = [resident(outcome.start), resident(outcome.idle)];
            let none = std::iter::repeat_n("-".to_owned(), COLUMNS.len() - 4);
            let name = &servers[*server].name;
            table.row(&[name, way.name()], few.into_iter().chain(none));
            continue;
        }
        let figures = [
            resident(outcome.start),
            resident(outcome.idle),
            resident(outcome.watching),
            format!("{:.1}", megabytes(outcome.watching.anonymous)),
            resident(outcome.later),
            format!("{:.1}", megabytes(outcome.later.anonymous)),
            outcome.heads.to_string(),
            outcome.told.to_string(),
        ];
        table.row(&[&servers[*server].name, way.name()], figures);
    }
    format!(
        "{}: one proxy before {MEMBERS} members, {} idle connections, then {} v2 watches beside \
         them; later: {} s\n\n{}",
        server::names(servers),
        plan.idle,
        plan.watches,
        plan.calm,
        table.finish()
    )
}
