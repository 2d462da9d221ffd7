//! The result: a table.

use super::load::Outcome;
use super::plan::Plan;
use crate::histogram::Histogram;
use crate::server::{self, Server};
use crate::table::{Table, ratio};

const COLUMNS: [&str; 7] = [
    "server",
    "disk",
    "linearizable, leader",
    "linearizable, followers",
    "serializable",
    "put",
    "failed",
];

/// The headline and the table: p99 in milliseconds, and how many times the fast disk's the slow
/// disk's is.
pub fn markdown(plan: &Plan, servers: &[Server], outcomes: &[[Outcome; 2]]) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for (server, [fast, slow]) in servers.iter().zip(outcomes) {
        for (disk, outcome) in [("fast", fast), ("slow", slow)] {
            let figures = p99(outcome).map(|millis| format!("{millis:.1}"));
            let failed = outcome.failed.to_string();
            table.row(&[&server.name, disk], figures.into_iter().chain([failed]));
        }
        let pairs = p99(slow).into_iter().zip(p99(fast));
        let ratios = pairs.map(|(slow, fast)| ratio(slow, fast));
        let dash = "-".to_owned();
        table.row(&[&server.name, "*slow / fast*"], ratios.chain([dash]));
    }
    format!(
        "{}: {} members, {} clients that put, two readers at each member, fsync + {} ms, {} rounds \
         of {} s; p99 in ms\n\n{}",
        server::names(servers),
        plan.members,
        plan.clients,
        plan.delay_ms,
        plan.rounds,
        plan.seconds,
        table.finish()
    )
}

fn p99(outcome: &Outcome) -> [f64; 4] {
    let millis = |histogram: &Histogram| histogram.quantile(0.99).as_secs_f64() * 1e3;
    [
        millis(&outcome.at_leader),
        millis(&outcome.at_followers),
        millis(&outcome.serializable),
        millis(&outcome.puts),
    ]
}
