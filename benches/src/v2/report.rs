//! The result: a table and a drawing.

use std::path::Path;

use anyhow::Result;

use super::plan::{Op, Plan};
use super::run::Cells;
use crate::cluster::report::curve;
use crate::draw::percentiles::{self, Chart, Panel};
use crate::guard::Change;
use crate::measure::Measure;
use crate::server::{self, Server};
use crate::table::{self, Table, megabytes, ratio};

const COLUMNS: [&str; 10] = [
    "request",
    "server",
    "req/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "server CPU us/req",
    "RSS MB",
    "anonymous MB",
    "errors",
];

/// A finished run.
#[derive(Debug)]
pub struct Report {
    /// The plan that was run.
    pub plan: Plan,
    /// The servers, ours first.
    pub servers: Vec<Server>,
    /// What made the load.
    pub loader: &'static str,
    /// What was measured.
    pub cells: Cells,
}

impl Report {
    /// What was run, in one line.
    pub fn headline(&self) -> String {
        let (plan, plural) = (&self.plan, if self.plan.members == 1 { "" } else { "s" });
        format!(
            "{}, v2 API: {} with {} connections, {} member{plural}, {} B value, {} x {} s a \
             request",
            server::names(&self.servers),
            self.loader,
            plan.connections,
            plan.members,
            plan.value_bytes,
            plan.rounds,
            plan.seconds,
        )
    }

    /// Every cell of the first server over that of the second.
    ///
    /// # Errors
    /// One is missing.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let ops = self.plan.ops.iter().enumerate();
        let change = |(place, op): (usize, &Op)| {
            let [new, old] = [0, 1].map(|server| self.cells.get(&(place, server)));
            Change::new(op.name().to_owned(), new, old, self.plan.rounds)
        };
        ops.map(change).collect()
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut table = Table::new(2, &COLUMNS);
        for (place, op) in self.plan.ops.iter().enumerate() {
            let measures: Vec<_> = self.measures(place).into_iter().flatten().collect();
            for (server, measure) in self.servers.iter().zip(&measures) {
                let [rate, p50, p99, p999, cpu, rss, anonymous] = figures(measure);
                let figures = [
                    format!("{rate:.0}"),
                    format!("{p50:.2}"),
                    format!("{p99:.2}"),
                    format!("{p999:.2}"),
                    format!("{cpu:.1}"),
                    format!("{rss:.0}"),
                    format!("{anonymous:.0}"),
                    measure.tally.errors.to_string(),
                ];
                table.row(&[op.name(), &server.name], figures);
            }
            let Some((ours, others)) = measures.split_first() else {
                continue;
            };
            for (server, theirs) in self.servers.iter().skip(1).zip(others) {
                let pairs = figures(ours).into_iter().zip(figures(theirs));
                let ratios = pairs.map(|(ours, theirs)| ratio(ours, theirs));
                let blank = std::iter::once(String::new());
                let name = format!("*ours / {}*", server.name);
                table.row(&[op.name(), &name], ratios.chain(blank));
            }
        }
        format!("{}\n\n{}", self.headline(), table.finish())
    }

    /// What is drawn: a panel a request.
    fn chart(&self) -> Chart<'_> {
        let panels = self.plan.ops.iter().enumerate().map(|(place, op)| {
            let measures = self.measures(place).into_iter();
            Panel {
                title: op.name().to_string(),
                curves: measures.map(|measure| measure.map(curve)).collect(),
            }
        });
        Chart {
            headline: self.headline(),
            servers: self.servers.iter().map(|one| one.name.clone()).collect(),
            rows: vec![panels.collect()],
        }
    }

    /// Writes v2.md and v2.svg.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let drawing = percentiles::draw(&self.chart());
        table::write(out, &[("v2.md", self.markdown()), ("v2.svg", drawing)])
    }

    /// The servers' measures of an operation.
    fn measures(&self, op: usize) -> Vec<Option<&Measure>> {
        let places = 0..self.servers.len();
        places.map(|server| self.cells.get(&(op, server))).collect()
    }
}

/// The figures of a cell, in the table's order.
fn figures(measure: &Measure) -> [f64; 7] {
    [
        measure.rate(),
        measure.millis(0.5),
        measure.millis(0.99),
        measure.millis(0.999),
        measure.server_cpu_micros(),
        megabytes(measure.memory.resident),
        megabytes(measure.memory.anonymous),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::v2::plan::{Loader, Op};

    /// A plan of two servers and two operations, one of which only ours has run.
    fn report() -> Report {
        let server = |name: &str| Server {
            name: name.into(),
            binary: "x".into(),
            flags: Vec::new(),
        };
        let mut measure = Measure {
            requests: 100,
            seconds: 2.0,
            server_cpu: Duration::from_millis(1),
            ..Measure::default()
        };
        measure
            .tally
            .latencies
            .record_many(Duration::from_millis(3), 100);
        Report {
            plan: Plan {
                servers: Default::default(),
                ops: vec![Op::Get, Op::Put],
                members: 1,
                connections: 100,
                seconds: 1.0,
                warm_up: 0.0,
                rounds: 2,
                value_bytes: 16,
                loader: Loader::Auto,
                out: None,
            },
            servers: vec![server("keelson 0.1.0"), server("etcd 3.4.23")],
            loader: "wrk",
            cells: Cells::from([
                ((0, 0), measure.clone()),
                ((0, 1), measure.clone()),
                ((1, 0), measure),
            ]),
        }
    }

    #[test]
    fn rows_and_ratios() {
        let text = report().markdown();
        assert!(text.starts_with("keelson 0.1.0 beside etcd 3.4.23, v2 API: wrk with 100 conn"));
        assert!(
            text.contains("| GET | keelson 0.1.0 | 50 | 3.00 | 3.00 | 3.00 | 10.0 | 0 | 0 | 0 |")
        );
        assert_eq!(text.matches("*ours / etcd 3.4.23* | **1.00**").count(), 1);
        assert_eq!(text.matches("| PUT |").count(), 1);
    }

    #[test]
    fn a_curve_a_cell() {
        let svg = percentiles::draw(&report().chart());
        assert_eq!(svg.matches("<path").count(), 3);
        assert!(!svg.contains("NaN"));
    }
}
