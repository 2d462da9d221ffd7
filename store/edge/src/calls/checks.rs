//! Counts of the checks of `/livez` and `/readyz`.

use std::collections::BTreeMap;

use keelson_port::metrics::Exposition;
use parking_lot::Mutex;

/// The outcomes of one check.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    succeeded: u64,
    failed: u64,
    last: bool,
}

/// The outcomes by kind of probe (`livez`, `readyz`) and name. Both come from tables.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<BTreeMap<(&'static str, &'static str), Outcomes>>);

impl Checks {
    /// Counts the outcome of a check.
    pub(super) fn note(&self, kind: &'static str, name: &'static str, succeeded: bool) {
        let mut all = self.0.lock();
        let outcomes = all.entry((kind, name)).or_default();
        outcomes.last = succeeded;
        match succeeded {
            true => outcomes.succeeded += 1,
            false => outcomes.failed += 1,
        }
    }

    /// Writes the series.
    pub(super) fn write(&self, out: &mut Exposition) {
        let all = self.0.lock();
        if all.is_empty() {
            return;
        }
        let name = "etcd_server_healthcheck";
        out.begin(name, "The result of each kind of healthcheck.", "gauge");
        for ((kind, check), outcomes) in all.iter() {
            let labels = [("name", *check), ("type", *kind)];
            out.series(name, &labels, u64::from(outcomes.last));
        }
        let name = "etcd_server_healthchecks_total";
        out.begin(
            name,
            "The total number of each kind of healthcheck.",
            "counter",
        );
        for ((kind, check), outcomes) in all.iter() {
            let counts = [("success", outcomes.succeeded), ("error", outcomes.failed)];
            for (status, count) in counts {
                let labels = [("name", *check), ("status", status), ("type", *kind)];
                out.series(name, &labels, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_outcome_is_the_gauge() {
        let checks = Checks::default();
        checks.note("readyz", "linearizable_read", true);
        checks.note("readyz", "linearizable_read", false);
        let mut out = Exposition::default();
        checks.write(&mut out);
        let text = out.into_text();
        let of = "name=\"linearizable_read\"";
        for line in [
            format!("etcd_server_healthcheck{{{of},type=\"readyz\"}} 0"),
            format!("etcd_server_healthchecks_total{{{of},status=\"success\",type=\"readyz\"}} 1"),
            format!("etcd_server_healthchecks_total{{{of},status=\"error\",type=\"readyz\"}} 1"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
