//! The result: a table.

use super::plan::{Plan, WORKS, Work};
use crate::measure::Measure;
use crate::server::{self, Server};
use crate::table::{Table, ratio};

const COLUMNS: [&str; 7] = [
    "work",
    "server",
    "a second",
    "p50, ms",
    "p99, ms",
    "server CPU, µs",
    "failed",
];

/// The headline, the table and the ratios; outcomes by server, then by work.
pub fn markdown(plan: &Plan, servers: &[Server], outcomes: &[Vec<Measure>]) -> String {
    let mut table = Table::new(2, &COLUMNS);
    for (place, work) in WORKS.iter().enumerate() {
        for (server, measured) in servers.iter().zip(outcomes) {
            let measure = &measured[place];
            let figures = [
                format!("{:.0}", measure.rate()),
                format!("{:.2}", measure.millis(0.5)),
                format!("{:.2}", measure.millis(0.99)),
                format!("{:.0}", measure.server_cpu_micros()),
                measure.tally.errors.to_string(),
            ];
            table.row(&[work.name(), &server.name], figures);
        }
    }
    let mut text = format!(
        "{}: one member, {} rounds of {} s, {} clients that put, {} that log in, values of {} \
         bytes\n\n{}\n",
        server::names(servers),
        plan.rounds,
        plan.seconds,
        plan.clients,
        plan.logins,
        plan.value_bytes,
        table.finish()
    );
    let of = |measured: &[Measure], work: Work| {
        let place = WORKS.iter().position(|other| *other == work);
        measured[place.expect("all are measured")].clone()
    };
    for (server, measured) in servers.iter().zip(outcomes) {
        let (off, on) = (of(measured, Work::Put), of(measured, Work::PutAsUser));
        text += &format!(
            "{}: a put with auth costs {} of the CPU and {} of the median latency of one without\n",
            server.name,
            ratio(on.server_cpu_micros(), off.server_cpu_micros()),
            ratio(on.millis(0.5), off.millis(0.5)),
        );
    }
    if let [ours, others @ ..] = outcomes {
        let ours = of(ours, Work::Login).rate();
        for (server, theirs) in servers.iter().skip(1).zip(others) {
            let times = ratio(ours, of(theirs, Work::Login).rate());
            text += &format!("logins a second: {times} of those of {}\n", server.name);
        }
    }
    text
}
