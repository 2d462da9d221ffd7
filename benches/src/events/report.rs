//! The result: a table.

use std::path::Path;

use anyhow::Result;

use super::outcome::Outcome;
use super::plan::Plan;
use crate::server::{self, Server};
use crate::table::{self, Table, ratio};

const COLUMNS: [&str; 11] = [
    "keys",
    "server",
    "puts/s",
    "put p50, ms",
    "put p99, ms",
    "events/s",
    "delivery p50, ms",
    "delivery p99, ms",
    "CPU us a put",
    "CPU us an event",
    "RSS, MB",
];

/// Digits after the point, of each figure.
const DIGITS: [usize; 9] = [0, 2, 2, 0, 2, 2, 1, 2, 1];

/// A finished run.
#[derive(Debug)]
pub struct Report {
    /// The plan that was run.
    pub plan: Plan,
    /// The servers, ours first.
    pub servers: Vec<Server>,
    /// What was measured, by cell and server.
    pub outcomes: Vec<Vec<Outcome>>,
}

impl Report {
    /// What was run, in one line.
    pub fn headline(&self) -> String {
        let plan = &self.plan;
        format!(
            "{}: members: {}, {} v3 watchers on {} streams and {} connections, {} puts/s of {} \
             bytes, rounds: {}",
            server::names(&self.servers),
            plan.members,
            plan.watchers,
            plan.streams,
            plan.connections,
            plan.rate,
            plan.value_bytes,
            plan.rounds,
        )
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut table = Table::new(2, &COLUMNS);
        for (keys, outcomes) in self.plan.keys.iter().zip(&self.outcomes) {
            let keys = format!("{keys:?}").to_lowercase();
            for (server, outcome) in self.servers.iter().zip(outcomes) {
                let shown = outcome.figures().into_iter().zip(DIGITS);
                let shown = shown.map(|(figure, digits)| format!("{figure:.digits$}"));
                table.row(&[&keys, &server.name], shown);
            }
            let Some((ours, others)) = outcomes.split_first() else {
                continue;
            };
            for (server, theirs) in self.servers.iter().skip(1).zip(others) {
                let pairs = ours.figures().into_iter().zip(theirs.figures());
                let name = format!("*ours / {}*", server.name);
                table.row(&[&keys, &name], pairs.map(|(a, b)| ratio(a, b)));
            }
        }
        format!("{}\n\n{}", self.headline(), table.finish())
    }

    /// Writes events.md.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        table::write(out, &[("events.md", self.markdown())])
    }
}
