//! The final check: every acknowledged write is on every member, once, and all members are equal.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::ledger::ComponentLedger;
use crate::http::{Client, Request};
use crate::proc::cluster::Cluster;

/// A key on a member: its value and modifiedIndex.
type Held = BTreeMap<String, (String, u64)>;

/// Hidden directories are not listed at the root.
const ROOTS: [&str; 2] = ["", "/_coreos.com"];

/// Checks every member; returns the number of checked keys.
///
/// # Errors
/// A member does not answer.
pub async fn verify(cluster: &Cluster, ledger: &ComponentLedger) -> Result<usize> {
    let mut first: Option<(String, Held)> = None;
    for member in &cluster.members {
        let held = dump(&member.client_url)
            .await
            .with_context(|| format!("{} cannot be read\n{}", member.name, member.log_tail()))?;
        check(&mut first, ledger, &member.name, held);
    }
    Ok(ledger.expected().len() + ledger.queued().len())
}

/// Checks the contents of a member, also against the first one's.
fn check(first: &mut Option<(String, Held)>, ledger: &ComponentLedger, name: &str, held: Held) {
    for (key, acked, doubts) in ledger.expected() {
        match held.get(&key) {
            None => ledger.violation(format!("{name} lost {key}: {acked:?}")),
            Some((value, index)) => {
                let same = (value, index) == (&acked.value, &acked.index);
                // A write of unknown outcome may have come after, never before.
                let later = acked.index < *index && doubts.contains(value);
                if !same && !later {
                    let text = format!("{key} is {value} at {index}, not {acked:?}");
                    ledger.violation(format!("{name}: {text}"));
                }
            }
        }
    }
    queue(ledger, name, &held);
    lasting(first, ledger, name, held);
}

/// Members are equal in all keys without a TTL.
fn lasting(
    first: &mut Option<(String, Held)>,
    ledger: &ComponentLedger,
    name: &str,
    mut held: Held,
) {
    held.retain(|key, _| !key.starts_with("/_coreos.com/fleet/lease"));
    held.retain(|key, _| !ledger.renewed().contains_key(key));
    match first {
        None => *first = Some((name.to_string(), held)),
        Some((other, there)) => {
            let differs = there.iter().find(|(key, row)| held.get(*key) != Some(row));
            let extra = held.iter().find(|(key, _)| !there.contains_key(*key));
            if let Some(row) = differs.or(extra) {
                ledger.violation(format!("{name} and {other} differ: {row:?}"));
            }
        }
    }
}

/// Every value once, those acknowledged under the acknowledged key.
fn queue(ledger: &ComponentLedger, name: &str, held: &Held) {
    let queued = ledger.queued();
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, (value, _)) in held
        .iter()
        .filter(|(key, _)| key.starts_with("/deis/queue/"))
    {
        if let Some(other) = found.insert(value, key) {
            ledger.violation(format!("{name}: {value} at {key} and {other}"));
        }
        if !queued.contains_key(value) {
            ledger.violation(format!("{name}: {value} at {key}, from nobody"));
        }
    }
    for (value, key) in &queued {
        if let Some(key) = key
            && found.get(value.as_str()) != Some(&key.as_str())
        {
            ledger.violation(format!("{name} lost {value} at {key}"));
        }
    }
}

/// All keys of the member, read after everything committed was applied.
async fn dump(url: &str) -> Result<Held> {
    let mut client = Client::new(url);
    let mut held = Held::new();
    for root in ROOTS {
        let target = format!("/v2/keys{root}?recursive=true&quorum=true");
        let reply = client.ask(&Request::get(target)).await?;
        let json = reply.json().with_context(|| reply.to_string())?;
        collect(&json["node"], &mut held);
    }
    Ok(held)
}

fn collect(node: &Value, held: &mut Held) {
    if let (Some(key), Some(value)) = (node["key"].as_str(), node["value"].as_str()) {
        let index = node["modifiedIndex"].as_u64().unwrap_or_default();
        held.insert(key.to_string(), (value.to_string(), index));
    }
    for child in node["nodes"].as_array().into_iter().flatten() {
        collect(child, held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::*;

    /// The number of violations found on two members with these contents.
    fn violations(
        ledger: &ComponentLedger,
        one: &[(&str, &str, u64)],
        two: &[(&str, &str, u64)],
    ) -> u64 {
        let mut first = None;
        for (name, rows) in [("one", one), ("two", two)] {
            let rows = rows.iter();
            let held =
                rows.map(|(key, value, index)| (key.to_string(), (value.to_string(), *index)));
            check(&mut first, ledger, name, held.collect());
        }
        ledger.violated.load(Ordering::Relaxed)
    }

    fn ledger() -> ComponentLedger {
        let ledger = ComponentLedger::new(2);
        ledger.ack("/a", "1", 7);
        ledger.doubt("/a", "2");
        ledger.queue("first", Some("/deis/queue/08".to_string()));
        ledger.queue("second", None);
        ledger
    }

    const GOOD: [(&str, &str, u64); 2] = [("/a", "1", 7), ("/deis/queue/08", "first", 8)];

    #[test]
    fn what_was_acknowledged_and_no_more_is_good() {
        assert_eq!(violations(&ledger(), &GOOD, &GOOD), 0);
        let later = [("/a", "2", 9), GOOD[1], ("/deis/queue/10", "second", 10)];
        assert_eq!(violations(&ledger(), &later, &later), 0);
    }

    #[test]
    fn everything_else_is_found() {
        let bad: [&[(&str, &str, u64)]; 6] = [
            &[GOOD[0]],
            &[GOOD[1]],
            &[("/a", "1", 6), GOOD[1]],
            &[("/a", "2", 6), GOOD[1]],
            &[GOOD[0], GOOD[1], ("/deis/queue/09", "first", 9)],
            &[GOOD[0], GOOD[1], ("/deis/queue/09", "stranger", 9)],
        ];
        for rows in bad {
            assert_ne!(violations(&ledger(), rows, rows), 0, "{rows:?}");
        }
        let more = [GOOD[0], GOOD[1], ("/b", "1", 11)];
        assert_ne!(violations(&ledger(), &GOOD, &more), 0);
        assert_ne!(violations(&ledger(), &more, &GOOD), 0);
    }

    #[test]
    fn a_lease_has_one_holder_at_a_time() {
        let (ledger, now) = (ledger(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(ledger.hold("one", now, now + second), None);
        assert_eq!(ledger.hold("one", now, now + 2 * second), None);
        let other = ledger.hold("two", now + second, now + 3 * second);
        assert_eq!(other.as_deref(), Some("one"));
        assert_eq!(ledger.hold("one", now + 4 * second, now + 5 * second), None);
    }
}
