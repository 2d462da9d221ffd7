//! The result: a table.

use std::path::Path;

use anyhow::Result;

use super::outcome::{Outcome, mean_resident, median};
use super::plan::Plan;
use crate::server::{self, Server};
use crate::table::{self, Table, megabytes, ratio};

const COLUMNS: [&str; 11] = [
    "server",
    "RSS before, MB",
    "RSS watching, MB",
    "RSS after the events, MB",
    "KB a watcher",
    "anonymous KB a watcher",
    "opening all, s",
    "half have it, median ms",
    "all have it, median ms",
    "all have it, max ms",
    "server CPU us a delivery",
];

/// A finished run.
#[derive(Debug)]
pub struct Report {
    /// The plan that was run.
    pub plan: Plan,
    /// The servers, ours first.
    pub servers: Vec<Server>,
    /// What was measured, by server.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// What was run, in one line.
    pub fn headline(&self) -> String {
        let plan = &self.plan;
        format!(
            "{}: {} connections with GET /v2/keys/dir?wait=true&recursive=true{}, {} events, \
             rounds: {}",
            server::names(&self.servers),
            plan.count,
            if plan.stream { "&stream=true" } else { "" },
            plan.events,
            plan.rounds,
        )
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut table = Table::new(1, &COLUMNS);
        let figures = |outcome| figures(outcome, self.plan.count);
        for (server, outcome) in self.servers.iter().zip(&self.outcomes) {
            let shown = figures(outcome).into_iter().zip(DIGITS);
            let shown = shown.map(|(figure, digits)| format!("{figure:.digits$}"));
            table.row(&[&server.name], shown);
        }
        if let [ours, others @ ..] = &self.outcomes[..] {
            for (server, theirs) in self.servers.iter().skip(1).zip(others) {
                let pairs = figures(ours).into_iter().zip(figures(theirs));
                let name = format!("*ours / {}*", server.name);
                table.row(&[&name], pairs.map(|(a, b)| ratio(a, b)));
            }
        }
        format!("{}\n\n{}", self.headline(), table.finish())
    }

    /// Writes watchers.md, or watchers-stream.md.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let name = if self.plan.stream {
            "watchers-stream.md"
        } else {
            "watchers.md"
        };
        table::write(out, &[(name, self.markdown())])
    }
}

/// Digits after the point, of each figure.
const DIGITS: [usize; 10] = [1, 1, 1, 2, 2, 1, 1, 1, 1, 2];

/// The figures, in the table's order.
fn figures(outcome: &Outcome, count: usize) -> [f64; 10] {
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let (resident, anonymous) = outcome.bytes_per_watcher(count);
    let deliveries = || outcome.deliveries.iter();
    [
        megabytes(mean_resident(&outcome.before)),
        megabytes(mean_resident(&outcome.open)),
        megabytes(mean_resident(&outcome.after)),
        resident / 1e3,
        anonymous / 1e3,
        median(outcome.opening.iter().copied()).as_secs_f64(),
        millis(median(deliveries().map(|one| one.half))),
        millis(median(deliveries().map(|one| one.all))),
        millis(deliveries().map(|one| one.all).max().unwrap_or_default()),
        outcome.cpu_micros(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watchers::outcome::Delivery;

    #[test]
    fn a_row_a_server_and_their_ratio() {
        let outcome = |all| Outcome {
            deliveries: [1, all, 9]
                .map(Duration::from_millis)
                .map(|all| Delivery { half: all / 2, all })
                .into(),
            ..Outcome::default()
        };
        let server = |name: &str| Server {
            name: name.into(),
            binary: "x".into(),
            flags: Vec::new(),
        };
        let report = Report {
            plan: Plan {
                servers: Default::default(),
                count: 10,
                events: 3,
                stream: true,
                rounds: 1,
                out: None,
            },
            servers: vec![server("ours"), server("theirs")],
            outcomes: vec![outcome(2), outcome(4)],
        };
        let text = report.markdown();
        assert!(text.starts_with("ours beside theirs: 10 connections with GET"));
        assert!(
            text.contains(
                "| ours | 0.0 | 0.0 | 0.0 | 0.00 | 0.00 | 0.0 | 1.0 | 2.0 | 9.0 | 0.00 |"
            )
        );
        assert!(text.contains("| **0.50** | **0.50** | **1.00** | - |"));
    }
}
