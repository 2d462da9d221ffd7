//! The claim: proxies cost a cluster nothing, members do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::background::Background;
use super::front::Front;
use super::load::{self, Op};
use super::plan::{Api, Plan, Way};
use crate::measure::{Measure, cpu, measure};
use crate::progress;
use crate::server::{Server, in_turn};
use crate::tally::Window;

/// The hosts of a cell. A host that is not a member is a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hosts {
    /// Members.
    pub members: usize,
    /// Proxies.
    pub proxies: usize,
}

impl Hosts {
    /// All of them.
    pub fn total(self) -> usize {
        self.members + self.proxies
    }
}

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// One client, or many.
    pub many: bool,
    /// Place of the server.
    pub server: usize,
    /// The hosts.
    pub hosts: Hosts,
    /// Whether the puts themselves go through the proxies.
    pub through: bool,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// The puts; CPU and memory are the members'.
    pub puts: Measure,
    /// CPU of all proxies, and over how long.
    pub proxies_cpu: (Duration, Duration),
    /// Reads in the background that failed.
    pub bad_reads: u64,
}

impl Cell {
    fn merge(&mut self, other: &Cell) {
        self.puts.merge(&other.puts);
        self.proxies_cpu.0 += other.proxies_cpu.0;
        self.proxies_cpu.1 += other.proxies_cpu.1;
        self.bad_reads += other.bad_reads;
    }

    /// CPU of all proxies, as a part of one core.
    pub fn proxies_load(&self) -> f64 {
        self.proxies_cpu.0.as_secs_f64() / self.proxies_cpu.1.as_secs_f64().max(1e-9)
    }
}

/// All cells.
pub type Cells = BTreeMap<Key, Cell>;

/// The hosts of all cells: three members with proxies, and members only.
pub fn layouts(plan: &Plan) -> Vec<Hosts> {
    let proxied = plan.proxies.iter().map(|proxies| Hosts {
        members: 3,
        proxies: *proxies,
    });
    let members = plan.sizes.iter().map(|members| Hosts {
        members: *members,
        proxies: 0,
    });
    let mut layouts: Vec<Hosts> = proxied.chain(members).collect();
    layouts.sort_unstable();
    layouts.dedup();
    layouts
}

/// Runs the part.
///
/// # Errors
/// A process does not start, or ends by itself.
pub async fn run(plan: &Plan, servers: &[Server]) -> Result<Cells> {
    let layouts = layouts(plan);
    let progress = progress::bar(plan.rounds * layouts.len() * servers.len());
    let mut cells = Cells::new();
    for round in 1..=plan.rounds {
        for hosts in &layouts {
            for (place, server) in in_turn(servers, round) {
                let one = one_cluster(plan, (place, server), *hosts, &progress).await;
                let Hosts { members, proxies } = *hosts;
                let what = || format!("{}: {members} members, {proxies} proxies", server.name);
                for (key, cell) in one.with_context(what)? {
                    cells.entry(key).or_default().merge(&cell);
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(cells)
}

/// The kind of a server's proxies: the one that forwards the claim's API.
fn way(plan: &Plan, server: &Server) -> Way {
    if plan.api == Api::V3 && server.is_etcd() {
        Way::GrpcProxy
    } else {
        Way::Proxy
    }
}

/// All cells of one server on some hosts.
async fn one_cluster(
    plan: &Plan,
    (place, server): (usize, &Server),
    hosts: Hosts,
    progress: &ProgressBar,
) -> Result<Vec<(Key, Cell)>> {
    let Hosts { members, proxies } = hosts;
    progress.set_message(format!("{}: {members} + {proxies} hosts", server.name));
    let ways = vec![way(plan, server); proxies];
    let mut front = Front::start(plan, server, members, &ways).await?;
    let mut cells = Vec::new();
    for through in [false, true] {
        if through && proxies == 0 {
            continue;
        }
        for many in [false, true] {
            let key = Key {
                many,
                server: place,
                hosts,
                through,
            };
            cells.push((key, one_cell(plan, key, &mut front).await?));
        }
    }
    Ok(cells)
}

async fn one_cell(plan: &Plan, key: Key, front: &mut Front) -> Result<Cell> {
    let (members, proxies) = (front.cluster.endpoints(), front.proxy_urls());
    let everybody = members.iter().chain(&proxies).cloned().collect();
    let background = Background::start(plan.api, everybody, plan.reads);
    let (begin, before) = (Instant::now(), cpu(&front.proxy_pids())?);
    let window = Window::after(plan.warm_up(), plan.measured());
    let urls = if key.through { &proxies } else { &members };
    let clients = if key.many { plan.clients } else { 1 };
    let loads = load::start(plan, Op::put(plan.api), urls, clients, window);
    let puts = measure(window, &front.cluster.pids(), loads).await?;
    let proxies_cpu = cpu(&front.proxy_pids())? - before;
    let elapsed = begin.elapsed();
    front.alive()?;
    let reads = background.stop().await?;
    Ok(Cell {
        puts,
        proxies_cpu: (proxies_cpu, elapsed),
        bad_reads: reads.bad,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_adds_up() {
        let cell = Cell {
            proxies_cpu: (Duration::from_secs(1), Duration::from_secs(4)),
            bad_reads: 1,
            ..Cell::default()
        };
        let mut sum = cell.clone();
        sum.merge(&cell);
        assert_eq!((sum.bad_reads, sum.proxies_load()), (2, 0.25));
        let hosts = Hosts {
            members: 3,
            proxies: 4,
        };
        assert_eq!(hosts.total(), 7);
    }
}
