//! The result: a table.

use keelson_tests::proc::usage::Memory;

use super::plan::Plan;
use crate::server::{self, Server};
use crate::table::{Table, megabytes};

const COLUMNS: [&str; 8] = [
    "process",
    "server",
    "RSS idle, MB",
    "anonymous idle, MB",
    "with watches, MB",
    "kB a watch",
    "after the watches, MB",
    "with keys, MB",
];

/// One process's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// At the start.
    pub idle: Memory,
    /// With the watches.
    pub watching: Memory,
    /// After their connections were closed.
    pub after: Memory,
    /// With the keys; a proxy has none.
    pub keys: Option<Memory>,
}

/// The headline and the table; the outcomes of each server are the member's and the proxy's.
pub fn markdown(plan: &Plan, servers: &[Server], outcomes: &[[Outcome; 2]]) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for (place, process) in ["member", "proxy"].into_iter().enumerate() {
        for (server, outcomes) in servers.iter().zip(outcomes) {
            let figures = figures(plan, &outcomes[place]);
            table.row(&[process, &server.name], figures);
        }
    }
    format!(
        "{}: {} connections with a v3 watch each, {} keys with values of {} bytes; anonymous \
         memory {} s later\n\n{}",
        server::names(servers),
        plan.watches,
        plan.keys,
        plan.value_bytes,
        plan.settle,
        table.finish()
    )
}

fn figures(plan: &Plan, outcome: &Outcome) -> [String; 6] {
    let anonymous = |memory: Memory| format!("{:.1}", megabytes(memory.anonymous));
    let grown = outcome.watching.anonymous as f64 - outcome.idle.anonymous as f64;
    [
        format!("{:.1}", megabytes(outcome.idle.resident)),
        anonymous(outcome.idle),
        anonymous(outcome.watching),
        format!("{:.1}", grown / 1e3 / plan.watches.max(1) as f64),
        anonymous(outcome.after),
        outcome.keys.map_or_else(|| "-".to_owned(), anonymous),
    ]
}
