//! Samples of the account of use, and what happened between two.

use std::collections::BTreeMap;

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

    /// What was added since.
    fn since(self, before: Counts) -> Counts {
        Counts {
            reads: self.reads.saturating_sub(before.reads),
            writes: self.writes.saturating_sub(before.writes),
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }

    fn add(&mut self, other: Counts) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
    }

    fn requests(self) -> u64 {
        self.reads + self.writes
    }
}

/// A prefix of one API; `None` for all that have no place of their own.
type Name = (KeySpace, Option<Vec<u8>>);

/// Keys and bytes.
type Sizes = BTreeMap<Name, (u64, u64)>;

/// The account of one member.
#[derive(Debug, Default)]
struct MemberAccount {
    /// How long it has counted, in ms.
    counted_ms: u64,
    counts: BTreeMap<Name, Counts>,
}

impl MemberAccount {
    /// The earlier counts as this account has them: those of prefixes that have lost their places
    /// since are among the others. Nothing if the member was started since.
    fn earlier(&self, before: &MemberAccount) -> BTreeMap<Name, Counts> {
        let mut earlier = BTreeMap::new();
        if self.counted_ms < before.counted_ms {
            return earlier;
        }
        for (name, counts) in &before.counts {
            let now = self.counts.get(name).copied().unwrap_or_default();
            let has_lost_its_place = name.1.is_some() && now.requests() < counts.requests();
            let name = match has_lost_its_place {
                true => (name.0, None),
                false => name.clone(),
            };
            earlier
                .entry(name)
                .or_insert_with(Counts::default)
                .add(*counts);
        }
        earlier
    }
}

/// The account of all members at one moment.
#[derive(Debug, Default)]
pub(super) struct Sample {
    members: BTreeMap<usize, MemberAccount>,
    sizes: Option<Sizes>,
    /// Members that did not answer.
    pub(super) silent: usize,
}

impl Sample {
    /// Adds a member's account.
    pub(super) fn add(&mut self, member: usize, usage: UsageResponse) {
        let mut sizes = Sizes::new();
        let mut account = MemberAccount {
            counted_ms: usage.counted_ms,
            ..MemberAccount::default()
        };
        let others = usage.others.iter().map(|one| ((one.space(), None), one));
        let prefixes = usage.prefixes.iter();
        let prefixes = prefixes.map(|one| ((one.space(), Some(one.prefix.to_vec())), one));
        for (name, one) in prefixes.chain(others) {
            sizes.insert(name.clone(), (one.keys, one.bytes));
            account.counts.insert(name, Counts::of(one));
        }
        self.members.insert(member, account);
        if usage.has_sizes {
            self.sizes = Some(sizes);
        }
    }

    /// Whether no member has answered.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a member has counted keys and bytes.
    pub(super) fn has_sizes(&self) -> bool {
        self.sizes.is_some()
    }

    /// Takes the sizes of an earlier sample, if this one has none.
    pub(super) fn take_sizes(&mut self, before: &Sample) {
        if self.sizes.is_none() {
            self.sizes.clone_from(&before.sizes);
        }
    }
}

/// What one prefix is used for.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Adds the members' rates, each over its own time. One that did not answer before counts from
    /// its next sample on.
    pub(super) fn between(before: &Sample, now: &Sample) -> Activity {
        let mut rows: BTreeMap<Name, Row> = BTreeMap::new();
        let mut longest = 0.0_f64;
        for (member, account) in &now.members {
            let Some(earlier) = before.members.get(member) else {
                continue;
            };
            let since_ms = match account.counted_ms.checked_sub(earlier.counted_ms) {
                Some(ms) => ms,
                None => account.counted_ms,
            };
            let seconds = (since_ms as f64 / 1e3).max(1e-3);
            longest = longest.max(seconds);
            let earlier = account.earlier(earlier);
            for (name, counts) in &account.counts {
                let since = counts.since(earlier.get(name).copied().unwrap_or_default());
                let row = rows.entry(name.clone()).or_default();
                row.reads += since.reads as f64 / seconds;
                row.writes += since.writes as f64 / seconds;
                row.read_bytes += since.read_bytes as f64 / seconds;
                row.written_bytes += since.written_bytes as f64 / seconds;
            }
        }
        for (name, (keys, bytes)) in now.sizes.iter().flatten() {
            let row = rows.entry(name.clone()).or_default();
            (row.keys, row.bytes) = (*keys, *bytes);
        }
        let rows = rows.into_iter().map(|((space, prefix), row)| Row {
            space,
            prefix,
            ..row
        });
        Activity {
            seconds: longest,
            rows: rows.filter(|row| !row.is_unused()).collect(),
            hidden: 0,
            members: now.members.len(),
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

    fn sample(members: &[(usize, u64, Vec<PrefixUse>)]) -> Sample {
        let mut sample = Sample::default();
        for (member, counted_ms, prefixes) in members {
            let others = prefixes.iter().filter(|one| one.prefix.is_empty());
            let prefixes = prefixes.iter().filter(|one| !one.prefix.is_empty());
            let usage = UsageResponse {
                prefixes: prefixes.cloned().collect(),
                others: others.cloned().collect(),
                has_sizes: *member == 0,
                counted_ms: *counted_ms,
                ..UsageResponse::default()
            };
            sample.add(*member, usage);
        }
        sample
    }

    #[test]
    fn members_add_up_each_over_its_own_time() {
        let before = sample(&[
            (0, 60_000, vec![one("/a/", 100, 0, 5)]),
            (1, 60_000, vec![one("/a/", 50, 7, 0)]),
        ]);
        let now = sample(&[
            (
                0,
                70_000,
                vec![one("/a/", 200, 10, 6), one("/b/", 0, 20, 1)],
            ),
            // It was started again, and has more than before.
            (1, 5_000, vec![one("/a/", 60, 0, 0)]),
            // It did not answer before.
            (2, 9_000, vec![one("/a/", 1_000_000, 0, 0)]),
        ]);
        let mut activity = Activity::between(&before, &now);
        activity.sort(Order::Writes);
        let found: Vec<_> = activity
            .rows
            .iter()
            .map(|row| (row.reads, row.writes, row.keys, row.bytes))
            .collect();
        assert_eq!(found, [(0.0, 2.0, 1, 10), (10.0 + 12.0, 1.0, 6, 60)]);
        activity.sort(Order::Requests);
        activity.limit(1);
        assert_eq!(activity.rows[0].prefix, Some(b"/a/".to_vec()));
        assert_eq!((activity.hidden, activity.members), (1, 3));
    }

    #[test]
    fn a_prefix_that_loses_its_place_is_no_burst() {
        let before = sample(&[(
            0,
            1_000,
            vec![
                one("/a/", 500, 0, 0),
                one("/b/", 90, 0, 0),
                one("", 1, 0, 0),
            ],
        )]);
        // `/a/` is among the others, and `/b/` has come back since.
        let now = sample(&[(0, 2_000, vec![one("/b/", 2, 0, 0), one("", 594, 0, 0)])]);
        let rows = Activity::between(&before, &now).rows;
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.prefix.clone(), row.reads))
            .collect();
        assert_eq!(found, [(None, 3.0), (Some(b"/b/".to_vec()), 2.0)]);
    }
}
