//! What a proxy adds: the same requests to the members and through each kind of proxy, in turn.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::front::Front;
use super::load::{self, Op};
use super::plan::{Plan, Way};
use crate::guard::Change;
use crate::measure::{Measure, measure};
use crate::progress;
use crate::server::{self, Server, in_turn};
use crate::table::{Table, megabytes};
use crate::tally::Window;

/// Members of each cluster.
const MEMBERS: usize = 3;

const COLUMNS: [&str; 14] = [
    "request",
    "server",
    "way",
    "p50 us",
    "p99 us",
    "added p50 us",
    "added p99 us",
    "more than its member, p50 us",
    "CPU us/req",
    "req/s, many",
    "p99 ms, many",
    "CPU us/req, many",
    "RSS MB",
    "errors",
];

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The request.
    pub op: Op,
    /// Place of the server.
    pub server: usize,
    /// How it gets to the members.
    pub way: Way,
    /// One client, or many.
    pub many: bool,
}

/// All cells. CPU and memory are the proxy's; without one, the members'.
pub type Cells = BTreeMap<Key, Measure>;

/// Runs the part: all servers and proxies of a round are up at the same time, and take turns.
///
/// # Errors
/// A process does not start, or ends by itself.
pub async fn run(plan: &Plan, servers: &[Server]) -> Result<Cells> {
    let keys = keys(plan, servers);
    let progress = progress::bar(plan.rounds * keys.len());
    let mut cells = Cells::new();
    for round in 1..=plan.rounds {
        let mut fronts = Vec::new();
        for (place, server) in servers.iter().enumerate() {
            progress.set_message(format!("round {round}: {}, starting", server.name));
            let ways = proxies(plan, place);
            let front = Front::start(plan, server, MEMBERS, &ways).await;
            fronts.push(front.with_context(|| server.name.clone())?);
        }
        one_round(
            plan,
            servers,
            round,
            &keys,
            &mut fronts,
            &progress,
            &mut cells,
        )
        .await?;
    }
    progress.finish_and_clear();
    Ok(cells)
}

/// The kinds of proxy of the server at that place.
pub fn proxies(plan: &Plan, place: usize) -> Vec<Way> {
    let ways = if place == 0 || plan.servers.baseline.is_some() {
        &plan.our_ways
    } else {
        &plan.their_ways
    };
    ways.clone()
}

/// All cells that make sense, in the order in which they are measured: servers and ways innermost.
fn keys(plan: &Plan, servers: &[Server]) -> Vec<Key> {
    let mut keys = Vec::new();
    for op in &plan.ops {
        for many in [false, true] {
            for (server, one) in servers.iter().enumerate() {
                let mut ways = vec![Way::Direct];
                let proxies = proxies(plan, server);
                // The choice of the member matters to a single client only.
                let asked = asked(*op);
                if !many && (asked == Way::Leader || proxies.contains(&Way::Proxy)) {
                    ways.push(asked);
                }
                ways.extend(proxies);
                ways.retain(|way| way.forwards(op.api(), one.is_etcd()));
                let key = |way| Key {
                    op: *op,
                    server,
                    way,
                    many,
                };
                keys.extend(ways.into_iter().map(key));
            }
        }
    }
    keys
}

/// The way to the member to which our proxy forwards.
fn asked(op: Op) -> Way {
    match op {
        Op::V2Get | Op::V3Range => Way::Preferred,
        Op::V2Put | Op::V3Put => Way::Leader,
    }
}

async fn one_round(
    plan: &Plan,
    servers: &[Server],
    round: usize,
    keys: &[Key],
    fronts: &mut [Front],
    progress: &ProgressBar,
    cells: &mut Cells,
) -> Result<()> {
    for op in &plan.ops {
        for many in [false, true] {
            for (place, server) in in_turn(servers, round) {
                let cell = |key: &&Key| (key.op, key.many, key.server) == (*op, many, place);
                for key in keys.iter().filter(cell) {
                    let way = key.way.name();
                    let what = format!("{}, {}, {way}", op.name(), server.name);
                    progress.set_message(what.clone());
                    let one = one_cell(plan, *key, &mut fronts[place]).await;
                    cells.entry(*key).or_default().merge(&one.context(what)?);
                    progress.inc(1);
                }
            }
        }
    }
    Ok(())
}

async fn one_cell(plan: &Plan, key: Key, front: &mut Front) -> Result<Measure> {
    let (urls, pids) = match key.way {
        Way::Direct => (front.cluster.endpoints(), front.cluster.pids()),
        Way::Leader => {
            let leader = front.cluster.leader().await?;
            let url = front.cluster.endpoints()[leader].clone();
            (vec![url], front.cluster.pids())
        }
        Way::Preferred => {
            let member = front
                .preferred(place(plan, key.server, Way::Proxy)?)
                .await?;
            let url = front.cluster.endpoints()[member].clone();
            (vec![url], front.cluster.pids())
        }
        way => {
            let proxy = &front.proxies[place(plan, key.server, way)?];
            (vec![proxy.url.clone()], vec![proxy.pid()])
        }
    };
    let clients = if key.many { plan.added_clients } else { 1 };
    let window = Window::after(plan.warm_up(), plan.measured());
    let loads = load::start(plan, key.op, &urls, clients, window);
    let measure = measure(window, &pids, loads).await?;
    front.alive()?;
    Ok(measure)
}

/// Which of a server's proxies is of that kind.
fn place(plan: &Plan, server: usize, way: Way) -> Result<usize> {
    let ways = proxies(plan, server);
    let place = ways.iter().position(|one| *one == way);
    place.context("no such proxy")
}

/// The table.
pub fn markdown(plan: &Plan, servers: &[Server], cells: &Cells) -> String {
    let mut table = Table::new(3, &COLUMNS);
    for key in keys(plan, servers).iter().filter(|key| !key.many) {
        let Some(one) = cells.get(key) else { continue };
        let by = |way| cells.get(&Key { way, ..*key });
        let ours = key.way == Way::Proxy && !servers[key.server].is_etcd();
        let bases = [by(Way::Direct), by(asked(key.op)).filter(|_| ours)];
        let many = cells.get(&Key { many: true, ..*key });
        let words = [key.op.name(), &servers[key.server].name, key.way.name()];
        table.row(&words, figures(one, bases, many));
    }
    format!(
        "{}: {MEMBERS} members; one client, then {} clients; {} B values, {} x {} s a cell. CPU \
         and RSS are the proxy's; without a proxy, all members' and the largest member's.\n\n{}",
        server::names(servers),
        plan.added_clients,
        plan.value_bytes,
        plan.rounds,
        plan.seconds,
        table.finish()
    )
}

/// Every cell of the first server over that of the second. CPU is the proxy's; without one, the
/// members'.
///
/// # Errors
/// One is missing.
pub fn changes(plan: &Plan, servers: &[Server], cells: &Cells) -> Result<Vec<Change>> {
    let ours = |key: &Key| key.server == 0;
    let change = |key: Key| {
        let clients = if key.many { "many" } else { "one" };
        let what = format!("{}, {}, clients: {clients}", key.op.name(), key.way.name());
        let [new, old] = [0, 1].map(|server| cells.get(&Key { server, ..key }));
        Change::new(what, new, old, plan.rounds)
    };
    let keys = keys(plan, servers).into_iter().filter(ours);
    keys.map(change).collect()
}

/// `bases`: all members in turn, and the one to which our proxy forwards.
fn figures(one: &Measure, bases: [Option<&Measure>; 2], many: Option<&Measure>) -> [String; 11] {
    let [direct, asked] = bases;
    let micros = |measure: &Measure, quantile| measure.millis(quantile) * 1e3;
    let added = |quantile| {
        let base = direct.map_or(f64::NAN, |direct| micros(direct, quantile));
        format!("{:.0}", micros(one, quantile) - base)
    };
    let of_many = |figure: fn(&Measure) -> f64, digits: usize| {
        many.map_or("-".into(), |many| format!("{:.digits$}", figure(many)))
    };
    let resident = many.unwrap_or(one).memory.resident.max(one.memory.resident);
    let errors = one.tally.errors + many.map_or(0, |many| many.tally.errors);
    [
        format!("{:.0}", micros(one, 0.5)),
        format!("{:.0}", micros(one, 0.99)),
        added(0.5),
        added(0.99),
        asked.map_or("-".into(), |asked| {
            format!("{:.0}", micros(one, 0.5) - micros(asked, 0.5))
        }),
        format!("{:.1}", one.server_cpu_micros()),
        of_many(Measure::rate, 0),
        of_many(|many| many.millis(0.99), 2),
        of_many(Measure::server_cpu_micros, 1),
        format!("{:.1}", megabytes(resident)),
        errors.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_added_is_the_difference_to_the_direct_way() {
        let measure = |micros| {
            let mut measure = Measure::default();
            measure
                .tally
                .latencies
                .record(Duration::from_micros(micros));
            measure.requests = 1;
            measure.seconds = 1.0;
            measure.server_cpu = Duration::from_micros(7);
            measure
        };
        let (direct, asked, proxied) = (measure(100), measure(120), measure(160));
        let bases = [Some(&direct), Some(&asked)];
        let [p50, _, added, _, more, cpu, rate, ..] = figures(&proxied, bases, None);
        let figures_of_one = [&*p50, &*added, &*more, &*cpu, &*rate];
        assert_eq!(figures_of_one, ["160", "60", "40", "7.0", "-"]);
        let [.., rate, _, _, _, _] = figures(&proxied, [Some(&direct), None], Some(&direct));
        assert_eq!(rate, "1");
    }
}
