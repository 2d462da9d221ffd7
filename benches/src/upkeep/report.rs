//! The result: a table.

use super::outcome::Outcome;
use super::plan::{Plan, WORKS};
use crate::server::{self, Server};
use crate::table::Table;

const COLUMNS: [&str; 10] = [
    "work",
    "server",
    "took, s",
    "MB/s",
    "put p99 alone, ms",
    "put p99, ms",
    "of that alone",
    "put max, ms",
    "puts/s, of those alone",
    "growth of anonymous memory, MB",
];

/// Digits after the point, of each figure.
const DIGITS: [usize; 8] = [2, 0, 2, 2, 2, 0, 2, 1];

/// The headline and the table; outcomes by server, then by work.
pub fn markdown(plan: &Plan, servers: &[Server], outcomes: &[[Outcome; 3]]) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for (place, work) in WORKS.iter().enumerate() {
        let work = format!("{work:?}").to_lowercase();
        for (server, outcomes) in servers.iter().zip(outcomes) {
            let shown = outcomes[place].figures().into_iter().zip(DIGITS);
            let shown = shown.map(|(figure, digits)| format!("{figure:.digits$}"));
            table.row(&[&work, &server.name], shown);
        }
    }
    format!(
        "{}: members: {}, {} keys with values of {} bytes, of which a revision each is compacted, \
         {} clients that put, rounds: {}\n\n{}",
        server::names(servers),
        plan.members,
        plan.keys,
        plan.value_bytes,
        plan.clients,
        plan.rounds,
        table.finish()
    )
}
