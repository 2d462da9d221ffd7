//! Samples of the account of use, and what happened between two.

use std::collections::BTreeMap;
use std::time::Instant;

use keelson_proto::keelsonpb::{KeySpace, PrefixUse, UsageResponse};

use super::Order;

/// The counts of one member's prefix, or of all that have no place of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    reads: u64,
    writes: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl Counts {
    fn of(one: &PrefixUse) -> Counts {
        Counts {
            reads: one.reads,
            writes: one.writes,
            read_bytes: one.read_bytes,
            written_bytes: one.written_bytes,
        }
    }

    /// What was added since. A member that was started again begins at 0.
    fn since(self, before: Counts) -> Counts {
        let less = self.reads < before.reads || self.writes < before.writes;
        let before = if less { Counts::default() } else { before };
        Counts {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }
}

/// A prefix of one API; `None` for all that have no place of their own.
type Name = (KeySpace, Option<Vec<u8>>);

/// Keys and bytes.
type Sizes = BTreeMap<Name, (u64, u64)>;

/// The account of all members at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    counts: BTreeMap<(usize, Name), Counts>,
    sizes: Option<Sizes>,
    /// Members that did not answer.
    pub(super) silent: usize,
    members: usize,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            at: Instant::now(),
            counts: BTreeMap::new(),
            sizes: None,
            silent: 0,
            members: 0,
        }
    }
}

impl Sample {
    /// Adds a member's account.
    pub(super) fn add(&mut self, member: usize, usage: UsageResponse) {
        self.members += 1;
        let mut sizes = Sizes::new();
        let others = usage.others.iter().map(|one| ((one.space(), None), one));
        let prefixes = usage.prefixes.iter();
        let prefixes = prefixes.map(|one| ((one.space(), Some(one.prefix.to_vec())), one));
        for (name, one) in prefixes.chain(others) {
            sizes.insert(name.clone(), (one.keys, one.bytes));
            self.counts.insert((member, name), Counts::of(one));
        }
        if usage.has_sizes {
            self.sizes = Some(sizes);
        }
    }

    /// Whether no member has answered.
    pub(super) fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// Takes the sizes of an earlier sample, if this one has none.
    pub(super) fn take_sizes(&mut self, before: &Sample) {
        if self.sizes.is_none() {
            self.sizes.clone_from(&before.sizes);
        }
    }
}

/// What one prefix is used for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) space: KeySpace,
    /// `None` for all that have no row of their own.
    pub(super) prefix: Option<Vec<u8>>,
    /// A second.
    pub(super) reads: f64,
    pub(super) writes: f64,
    pub(super) read_bytes: f64,
    pub(super) written_bytes: f64,
    /// Present.
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

impl Row {
    fn is_unused(&self) -> bool {
        self.keys == 0 && self.reads + self.writes == 0.0
    }

    fn rank(&self, order: Order) -> f64 {
        match order {
            Order::Requests => self.reads + self.writes,
            Order::Reads => self.reads,
            Order::Writes => self.writes,
            Order::Keys => self.keys as f64,
            Order::Bytes => self.bytes as f64,
        }
    }
}

/// What happened between two samples.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) seconds: f64,
    pub(super) rows: Vec<Row>,
    /// Rows that are not shown.
    pub(super) hidden: usize,
    pub(super) members: usize,
    pub(super) silent: usize,
}

impl Activity {
    /// Adds the members' counts. One that did not answer before counts from its next sample on.
    pub(super) fn between(before: &Sample, now: &Sample) -> Activity {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let mut sums: BTreeMap<&Name, Counts> = BTreeMap::new();
        for (key, counts) in &now.counts {
            let (member, name) = key;
            let since = match before.counts.get(key) {
                Some(earlier) => counts.since(*earlier),
                None if before.counts.keys().any(|(other, _)| other == member) => *counts,
                None => Counts::default(),
            };
            let sum = sums.entry(name).or_default();
            sum.reads += since.reads;
            sum.writes += since.writes;
            sum.read_bytes += since.read_bytes;
            sum.written_bytes += since.written_bytes;
        }
        let none = Sizes::new();
        let sizes = now.sizes.as_ref().unwrap_or(&none);
        for name in sizes.keys() {
            sums.entry(name).or_default();
        }
        let rows = sums.into_iter().map(|(name, sum)| {
            let (keys, bytes) = sizes.get(name).copied().unwrap_or_default();
            Row {
                space: name.0,
                prefix: name.1.clone(),
                reads: sum.reads as f64 / seconds,
                writes: sum.writes as f64 / seconds,
                read_bytes: sum.read_bytes as f64 / seconds,
                written_bytes: sum.written_bytes as f64 / seconds,
                keys,
                bytes,
            }
        });
        Activity {
            seconds,
            rows: rows.filter(|row| !row.is_unused()).collect(),
            hidden: 0,
            members: now.members,
            silent: now.silent,
        }
    }

    /// Sorts the rows, the highest first; equal ones by name.
    pub(super) fn sort(&mut self, order: Order) {
        self.rows
            .sort_by(|one, other| other.rank(order).total_cmp(&one.rank(order)));
    }

    /// Keeps the first rows.
    pub(super) fn limit(&mut self, rows: usize) {
        self.hidden = self.rows.len().saturating_sub(rows);
        self.rows.truncate(rows);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn one(prefix: &str, reads: u64, writes: u64, keys: u64) -> PrefixUse {
        PrefixUse {
            prefix: prefix.as_bytes().to_vec().into(),
            reads,
            writes,
            keys,
            bytes: 10 * keys,
            ..PrefixUse::default()
        }
    }

    fn sample(after: u64, members: &[(usize, Vec<PrefixUse>)]) -> Sample {
        let mut sample = Sample::default();
        sample.at += Duration::from_secs(after);
        for (member, prefixes) in members {
            let usage = UsageResponse {
                prefixes: prefixes.clone(),
                has_sizes: *member == 0,
                ..UsageResponse::default()
            };
            sample.add(*member, usage);
        }
        sample
    }

    #[test]
    fn members_add_up() {
        let before = sample(
            0,
            &[
                (0, vec![one("/a/", 100, 0, 5)]),
                (1, vec![one("/a/", 50, 7, 0)]),
            ],
        );
        let now = sample(
            10,
            &[
                (0, vec![one("/a/", 200, 10, 6), one("/b/", 0, 20, 1)]),
                // It was started again.
                (1, vec![one("/a/", 30, 0, 0)]),
                // It did not answer before.
                (2, vec![one("/a/", 1_000_000, 0, 0)]),
            ],
        );
        let mut activity = Activity::between(&before, &now);
        activity.sort(Order::Writes);
        let found: Vec<_> = activity
            .rows
            .iter()
            .map(|row| (row.reads.round(), row.writes.round(), row.keys, row.bytes))
            .collect();
        assert_eq!(found, [(0.0, 2.0, 1, 10), (13.0, 1.0, 6, 60)]);
        activity.sort(Order::Requests);
        activity.limit(1);
        assert_eq!(activity.rows[0].prefix, Some(b"/a/".to_vec()));
        assert_eq!((activity.hidden, activity.members), (1, 3));
    }
}
