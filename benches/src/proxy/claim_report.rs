//! The claim as a table and as a drawing.

use super::claim::{Cell, Cells, Hosts, Key, layouts};
use super::plan::{Api, Plan};
use crate::draw::hosts::{Chart, Panel, Point};
use crate::server::{self, Server};
use crate::table::{Table, megabytes};

const COLUMNS: [&str; 13] = [
    "put",
    "server",
    "members",
    "proxies",
    "puts go to",
    "req/s",
    "p50 ms",
    "p99 ms",
    "members' CPU us/req",
    "proxies' CPU, % of a core",
    "largest member's RSS MB",
    "errors",
    "failed reads",
];

/// What was run, in one line.
pub fn headline(plan: &Plan, servers: &[Server]) -> String {
    let api = match plan.api {
        Api::V2 => "v2",
        Api::V3 => "v3",
    };
    format!(
        "{}: {api} puts of {} B, {} reads/s through every host, {} x {} s a cell, one machine",
        server::names(servers),
        plan.value_bytes,
        plan.reads,
        plan.rounds,
        plan.seconds,
    )
}

/// The table.
pub fn markdown(plan: &Plan, servers: &[Server], cells: &Cells) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for (key, cell) in cells {
        let who = match key.many {
            false => "one client".to_string(),
            true => format!("{} clients", plan.clients),
        };
        table.row(&[&who, &servers[key.server].name], figures(key, cell));
    }
    format!("{}\n\n{}", headline(plan, servers), table.finish())
}

fn figures(key: &Key, cell: &Cell) -> [String; 11] {
    let puts = &cell.puts;
    [
        key.hosts.members.to_string(),
        key.hosts.proxies.to_string(),
        if key.through { "proxies" } else { "members" }.into(),
        format!("{:.0}", puts.rate()),
        format!("{:.2}", puts.millis(0.5)),
        format!("{:.2}", puts.millis(0.99)),
        format!("{:.1}", puts.server_cpu_micros()),
        format!("{:.1}", cell.proxies_load() * 100.0),
        format!("{:.0}", megabytes(puts.memory.resident)),
        puts.tally.errors.to_string(),
        cell.bad_reads.to_string(),
    ]
}

/// The drawing's content: a row a server, a column for one client and one for many.
pub fn chart(plan: &Plan, servers: &[Server], cells: &Cells) -> Chart {
    let rows = servers.iter().enumerate().map(|(server, one)| {
        let panel = |many| Panel {
            title: match many {
                false => format!("{}: put, one client", one.name),
                true => format!("{}: put, {} clients", one.name, plan.clients),
            },
            lines: [Line::Proxies, Line::Members, Line::Through]
                .map(|line| points(plan, cells, server, many, line))
                .into(),
        };
        vec![panel(false), panel(true)]
    });
    Chart {
        headline: headline(plan, servers),
        names: vec![
            "3 members, the rest proxies".into(),
            "all are members".into(),
            "3 members, puts through proxies".into(),
        ],
        rows: rows.collect(),
    }
}

/// A line of the drawing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Proxies,
    Members,
    Through,
}

impl Line {
    /// Whether these hosts are on the line. Three members and nothing else begin two of them.
    fn holds(self, plan: &Plan, hosts: Hosts) -> bool {
        match self {
            Line::Proxies => hosts.members == 3 && plan.proxies.contains(&hosts.proxies),
            Line::Members => hosts.proxies == 0 && plan.sizes.contains(&hosts.members),
            Line::Through => hosts.proxies > 0,
        }
    }
}

fn points(plan: &Plan, cells: &Cells, server: usize, many: bool, line: Line) -> Vec<Point> {
    let hosts = layouts(plan)
        .into_iter()
        .filter(|one| line.holds(plan, *one));
    let cell = |hosts| {
        let through = line == Line::Through;
        let key = Key {
            many,
            server,
            hosts,
            through,
        };
        cells.get(&key).map(|cell| Point {
            hosts: key.hosts.total(),
            p50: cell.puts.millis(0.5),
            p99: cell.puts.millis(0.99),
        })
    };
    hosts.filter_map(cell).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn plan(arguments: &str) -> Plan {
        let command = Plan::augment_args(Command::new("proxy").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments.split_whitespace());
        Plan::from_arg_matches(&matches.unwrap()).unwrap()
    }

    #[test]
    fn two_lines_begin_at_three_members() {
        let plan = plan("--proxies 0,2,10 --sizes 3,5");
        let servers = [Server {
            name: "ours".into(),
            binary: "x".into(),
            flags: Vec::new(),
        }];
        let mut cells = Cells::new();
        for hosts in layouts(&plan) {
            for through in [false, true] {
                let mut cell = Cell::default();
                let latency = Duration::from_millis(hosts.members as u64);
                cell.puts.tally.latencies.record(latency);
                (cell.puts.requests, cell.puts.seconds) = (1, 1.0);
                let key = Key {
                    many: true,
                    server: 0,
                    hosts,
                    through,
                };
                if !through || hosts.proxies > 0 {
                    cells.insert(key, cell);
                }
            }
        }
        let chart = chart(&plan, &servers, &cells);
        let lines = &chart.rows[0][1].lines;
        let hosts = |line: &Vec<Point>| line.iter().map(|one| one.hosts).collect::<Vec<_>>();
        assert_eq!(hosts(&lines[0]), [3, 5, 13]);
        assert_eq!(hosts(&lines[1]), [3, 5]);
        assert_eq!(hosts(&lines[2]), [5, 13]);
        let text = markdown(&plan, &servers, &cells);
        assert!(text.contains("| 200 clients | ours | 3 | 10 | proxies | 1 | 3.00 | 3.00 |"));
        assert_eq!(text.lines().count(), 4 + cells.len());
    }
}
