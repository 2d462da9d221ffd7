//! Two logs that have an entry of the same index and term agree up to there. Raft, figure 3, "Log
//! Matching"; section 5.3. Checked by induction: the same entry, and the same term before it.

use std::collections::HashMap;

use super::{Fact, Invariant, Ledger, Line};

#[derive(Default)]
pub(super) struct LogMatching {
    /// (index, term) -> the payload's hash, and the term of the entry before. Never iterated.
    seen: HashMap<(u64, u64), (u64, u64)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Appended { member, append } = fact else {
            return Ok(());
        };
        let Some(logs) = ledger.logs(*member) else {
            return Ok(());
        };
        for entry in &append.entries {
            let index = entry.index.0;
            let Some(Line { term, hash }) = logs.memory.at(index) else {
                return Err(format!("{member} appended {index} and has it not"));
            };
            let Some(term_before) = logs.memory.term_at(index - 1) else {
                return Err(format!("{member} has a gap before {index}"));
            };
            let line = (hash, term_before);
            let known = self.seen.get(&(index, term)).copied();
            // A lone voter that elects itself sends nothing before its term is durable; after a
            // crash it may lead in the same term, with other entries.
            if known.is_none() && term <= logs.hard_state.term.0 {
                self.seen.insert((index, term), line);
            }
            let first = known.unwrap_or(line);
            if first != (hash, term_before) {
                return Err(format!(
                    "{member} has another entry {index} of term {term} than somebody else, or \
                     another before it: {first:x?} and {:x?}",
                    (hash, term_before)
                ));
            }
        }
        Ok(())
    }
}
