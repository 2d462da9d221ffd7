//! A committed entry never changes, on any member, in any incarnation. Raft, figure 3, "State
//! Machine Safety"; the lost writes that Jepsen and etcd found are violations as a client sees
//! them.

use super::{Fact, Invariant, Ledger, Line};

pub(super) struct CommittedIsFinal;

impl Invariant for CommittedIsFinal {
    fn name(&self) -> &'static str {
        "committed is final"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Committed { member, committed } => {
                let index = committed.entry.index.0;
                let Some(known) = ledger.committed(index) else {
                    return Err(format!("{member} commits {index} with a gap before it"));
                };
                if known.line == Line::of(&committed.entry) {
                    return Ok(());
                }
                Err(format!(
                    "{member} commits {committed:?} where {} committed {:?}",
                    known.first, known.line
                ))
            }
            // A log may lack committed entries; it may not have other entries below its commit
            // index.
            Fact::Recovered {
                member, restored, ..
            } => {
                let below = restored.entries.iter();
                let mut below = below.filter(|entry| entry.index <= restored.hard_state.commit);
                let wrong = below.find(|entry| {
                    let known = ledger.committed(entry.index.0);
                    known.is_none_or(|known| known.line != Line::of(entry))
                });
                match wrong {
                    None => Ok(()),
                    Some(entry) => Err(format!("{member} came back with {entry:?} as committed")),
                }
            }
            _ => Ok(()),
        }
    }
}
