//! The result: a table.

use super::outcome::Outcome;
use super::plan::Plan;
use crate::server::{self, Server};
use crate::table::Table;

const COLUMNS: [&str; 10] = [
    "work",
    "server",
    "keys or leases/s",
    "put p50, ms",
    "put p99 alone, ms",
    "put p99, ms",
    "of that alone",
    "put max, ms",
    "anonymous memory, MB",
    "growth at the peak, MB",
];

/// Digits after the point, of each figure.
const DIGITS: [usize; 8] = [0, 2, 2, 2, 2, 1, 1, 1];

/// The headline and the table; outcomes by work and server, `None` where a server lacks the call.
pub fn markdown(plan: &Plan, servers: &[Server], outcomes: &[Vec<Option<Outcome>>]) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for (work, outcomes) in plan.works.iter().zip(outcomes) {
        let work = format!("{work:?}").to_lowercase();
        for (server, outcome) in servers.iter().zip(outcomes) {
            let Some(outcome) = outcome else {
                continue;
            };
            let shown = outcome.figures().into_iter().zip(DIGITS);
            let shown = shown.map(|(figure, digits)| format!("{figure:.digits$}"));
            table.row(&[&work, &server.name], shown);
        }
    }
    format!(
        "{}: one member, {} keys with values of {} bytes, pages of {} keys, {} leases of {} s; {} \
         puts/s of another client\n\n{}",
        server::names(servers),
        plan.keys,
        plan.value_bytes,
        plan.page,
        plan.leases,
        plan.ttl,
        plan.rate,
        table.finish()
    )
}
