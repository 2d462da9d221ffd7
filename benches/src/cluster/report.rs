//! The result: a table for people, JSON for programs, a drawing.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::cell::Cells;
use super::plan::{Op, Plan};
use crate::draw::percentiles::{self, Chart, Curve, Panel};
use crate::draw::thousands;
use crate::guard::Change;
use crate::measure::Measure;
use crate::server::{self, Server};
use crate::table::{self, megabytes};

/// Quantiles kept in the JSON.
const QUANTILES: [f64; 9] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999];

/// A finished run.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    servers: Vec<Server>,
    cells: Cells,
}

impl Report {
    /// Puts a run together.
    pub fn new(plan: &Plan, servers: &[Server], cells: Cells) -> Report {
        Report {
            plan: plan.clone(),
            servers: servers.to_vec(),
            cells,
        }
    }

    /// What was run, in one line.
    pub fn headline(&self) -> String {
        let stored = match self.plan.stored_keys {
            0 => String::new(),
            keys => format!(", {keys} keys in the store"),
        };
        format!(
            "{}: {} clients over {} connections (put1: one), {} B values, {} x {} s a cell{stored}",
            server::names(&self.servers),
            self.plan.clients,
            self.plan.connections,
            self.plan.value_bytes,
            self.plan.rounds,
            self.plan.seconds,
        )
    }

    /// Cluster sizes, in the plan's order.
    pub fn members(&self) -> &[usize] {
        &self.plan.members
    }

    /// Operations, in the plan's order.
    pub fn ops(&self) -> &[Op] {
        &self.plan.ops
    }

    /// The cell of that size, operation (by place) and server (by place).
    pub fn cell(&self, members: usize, op: usize, server: usize) -> Option<&Measure> {
        self.cells.get(&(members, op, server))
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.headline());
        text += "| members | op | server | req/s | p50 ms | p99 ms | p99.9 ms | server CPU us/req \
                 | client CPU us/req | RSS MB | anonymous MB | errors |\n";
        text += "|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for members in self.members() {
            for (place, op) in self.ops().iter().enumerate() {
                text += &self.rows(*members, place, *op);
            }
        }
        text + &self.error_reasons()
    }

    /// Every cell of the first server over that of the second.
    ///
    /// # Errors
    /// One is missing.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for members in self.members() {
            for (place, op) in self.ops().iter().enumerate() {
                let [new, old] = [0, 1].map(|server| self.cell(*members, place, server));
                let what = format!("{op} x {members}");
                changes.push(Change::new(what, new, old, self.plan.rounds)?);
            }
        }
        Ok(changes)
    }

    /// The rows of one size and operation: a server each, and ours / that of each other.
    fn rows(&self, members: usize, place: usize, op: Op) -> String {
        let measures: Vec<_> = (0..self.servers.len())
            .filter_map(|server| self.cell(members, place, server))
            .collect();
        let mut text = String::new();
        for (server, measure) in self.servers.iter().zip(&measures) {
            let [rate, p50, p99, p999, cpu, client, rss, anonymous] = figures(measure);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {members} | {op} | {} | {rate:.0} | {p50:.2} | {p99:.2} | {p999:.2} \
                 | {cpu:.1} | {client:.1} | {rss:.0} | {anonymous:.0} | {} |",
                server.name, measure.tally.errors,
            );
        }
        let Some((ours, others)) = measures.split_first() else {
            return text;
        };
        for (server, theirs) in self.servers.iter().skip(1).zip(others) {
            let ratios = figures(ours).into_iter().zip(figures(theirs));
            let ratios: Vec<String> = ratios.map(|(a, b)| format!("**{:.2}**", a / b)).collect();
            let _ = writeln!(
                text,
                "| {members} | {op} | *ours / {}* | {} | |",
                server.name,
                ratios.join(" | ")
            );
        }
        text
    }

    /// Why requests failed, if any did.
    fn error_reasons(&self) -> String {
        let mut text = String::new();
        for ((members, op, server), measure) in &self.cells {
            for (reason, count) in &measure.tally.reasons {
                let (op, server) = (self.plan.ops[*op], &self.servers[*server].name);
                let _ = writeln!(text, "\n- {server} x {members}, {op}: {count} x {reason}");
            }
        }
        text
    }

    /// What is drawn: a row an operation, a column a cluster size.
    fn chart(&self) -> Chart<'_> {
        let panel = |row: usize, op: &Op, members: usize| {
            let plural = if members == 1 { "member" } else { "members" };
            let cells = (0..self.servers.len()).map(|server| self.cell(members, row, server));
            Panel {
                title: format!("{}, {members} {plural}", op.title()),
                curves: cells.map(|cell| cell.map(curve)).collect(),
            }
        };
        let rows = self.ops().iter().enumerate().map(|(row, op)| {
            let sizes = self.members().iter();
            sizes.map(|members| panel(row, op, *members)).collect()
        });
        Chart {
            headline: self.headline(),
            servers: self.servers.iter().map(|one| one.name.clone()).collect(),
            rows: rows.collect(),
        }
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let cells = self.cells.iter().map(|((members, op, server), measure)| {
            let latencies = &measure.tally.latencies;
            let quantiles = QUANTILES.iter().map(|quantile| {
                let millis = latencies.quantile(*quantile).as_secs_f64() * 1e3;
                (quantile.to_string(), json!(millis))
            });
            json!({
                "server": self.servers[*server].name,
                "members": members,
                "op": self.plan.ops[*op],
                "requests": measure.requests,
                "seconds": measure.seconds,
                "requests_per_second": measure.rate(),
                "requests_per_second_by_round": measure.rates,
                "latency_ms": quantiles.collect::<serde_json::Map<_, _>>(),
                "latency_max_ms": latencies.quantile(1.0).as_secs_f64() * 1e3,
                "server_cpu_us_per_request": measure.server_cpu_micros(),
                "client_cpu_us_per_request": measure.client_cpu_micros(),
                "rss_bytes": measure.memory.resident,
                "anonymous_bytes": measure.memory.anonymous,
                "errors": measure.tally.errors,
                "error_reasons": measure.tally.reasons,
            })
        });
        json!({
            "headline": self.headline(),
            "clients": self.plan.clients,
            "connections": self.plan.connections,
            "value_bytes": self.plan.value_bytes,
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            "cells": cells.collect::<Vec<_>>(),
        })
    }

    /// Writes cluster.md, cluster.json and cluster.svg.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let files = [
            ("cluster.md", self.markdown()),
            ("cluster.json", format!("{:#}\n", self.json())),
            ("cluster.svg", percentiles::draw(&self.chart())),
        ];
        table::write(out, &files)
    }
}

/// A cell's curve, with its rate and CPU.
pub fn curve(measure: &Measure) -> Curve<'_> {
    let rate = thousands(measure.rate());
    Curve {
        latencies: &measure.tally.latencies,
        note: format!("{rate} req/s, {:.0} us CPU", measure.server_cpu_micros()),
    }
}

/// The figures of a cell, in the table's order.
fn figures(measure: &Measure) -> [f64; 8] {
    [
        measure.rate(),
        measure.millis(0.5),
        measure.millis(0.99),
        measure.millis(0.999),
        measure.server_cpu_micros(),
        measure.client_cpu_micros(),
        megabytes(measure.memory.resident),
        megabytes(measure.memory.anonymous),
    ]
}
