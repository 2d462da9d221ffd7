//! Term, vote, commit, applied index and revision never decrease during an incarnation. The term
//! never does across incarnations, nor does the term that clients are shown. Raft, section 5.1;
//! Jepsen's "revision went back" for the revision.

use std::collections::BTreeMap;

use keelson_core::MemberId;

use super::{Fact, Invariant, Ledger};

#[derive(Default)]
pub(super) struct Monotone {
    marks: BTreeMap<MemberId, Marks>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    boot: u64,
    term: u64,
    /// The term that clients are shown: it never decreases, across incarnations either.
    shown: u64,
    committed: u64,
    applied: u64,
    durable: u64,
    first: u64,
    revision: i64,
}

impl Invariant for Monotone {
    fn name(&self) -> &'static str {
        "nothing goes back"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Recovered { member, boot, .. } => {
                let marks = self.marks.entry(*member).or_default();
                if *boot <= marks.boot {
                    return Err(format!(
                        "{member} began life {boot} after life {}",
                        marks.boot
                    ));
                }
                // What was never durable may be lost; messages are checked in
                // `durable_before_sent`.
                let term = ledger
                    .logs(*member)
                    .map_or(0, |logs| logs.hard_state.term.0);
                *marks = Marks {
                    boot: *boot,
                    term,
                    shown: marks.shown,
                    ..Marks::default()
                };
                Ok(())
            }
            Fact::Applied {
                member, revision, ..
            } => {
                let marks = self.marks.entry(*member).or_default();
                if *revision < marks.revision {
                    return Err(format!(
                        "{member}: revision {} to {revision}",
                        marks.revision
                    ));
                }
                marks.revision = *revision;
                Ok(())
            }
            Fact::Status {
                member,
                status,
                applied,
                durable,
                boot,
            } => {
                let old = self.marks.entry(*member).or_default();
                let new = Marks {
                    boot: *boot,
                    term: status.soft_state.term.0,
                    shown: status.shown_term.0,
                    committed: status.committed.0,
                    applied: applied.0,
                    durable: durable.0,
                    first: status.first.0,
                    revision: old.revision,
                };
                let back = new.term < old.term
                    || new.shown < old.shown
                    || new.committed < old.committed
                    || new.applied < old.applied
                    || new.durable < old.durable
                    || new.first < old.first;
                if back {
                    return Err(format!("{member}: {old:?} to {new:?}"));
                }
                *old = new;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
