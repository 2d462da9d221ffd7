//! Wing and Gong's search for a linearization of one register, with Lowe's memo ("Testing for
//! linearizability", 2017), as in porcupine.
//!
//! It is independent of etcd: `register` turns a history into steps on one key.

use std::collections::{HashMap, HashSet};

/// The state of a register: empty, or a value by its number.
pub type Register = Option<u32>;

/// An operation's condition on the register just before it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// No condition.
    Any,
    /// It had this state.
    Is(Register),
    /// It had any state but this.
    Not(Register),
}

/// An operation's effect on the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Leaves it unchanged.
    Keep,
    /// Sets it to this state.
    Become(Register),
    /// Sets it to `to` if it was `from`: a compare-and-swap of unknown outcome.
    Swap {
        /// The expected state.
        from: Register,
        /// The new state.
        to: Register,
    },
}

/// One operation on the register.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The time of its call. All calls and returns of a history have different numbers.
    pub call: u64,
    /// The time of its return; `None` if it never returned: it may take effect at any later time,
    /// or never.
    pub returned: Option<u64>,
    /// Its condition.
    pub before: Before,
    /// Its effect.
    pub after: After,
}

impl Step {
    fn run(&self, state: Register) -> Option<Register> {
        let possible = match self.before {
            Before::Any => true,
            Before::Is(seen) => state == seen,
            Before::Not(refuted) => state != refuted,
        };
        possible.then_some(match self.after {
            After::Keep => state,
            After::Become(new) => new,
            After::Swap { from, to } if state == from => to,
            After::Swap { .. } => state,
        })
    }

    fn written(&self) -> Option<u32> {
        match self.after {
            After::Keep => None,
            After::Become(new) => new,
            After::Swap { to, .. } => to,
        }
    }
}

/// The result of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a valid order.
    Linearizable,
    /// There is no valid order.
    NotLinearizable,
    /// The search reached its bound.
    GaveUp,
}

/// Searches for an order, starting from an empty register.
pub fn check(steps: &[Step], budget: u64) -> Verdict {
    Search::new(steps).run(budget)
}

/// Settles operations that never returned, using that no value is written twice. One whose value
/// was never seen is dropped; one whose value was seen must have taken effect before that read
/// returned. Sound only if every operation that depends on the register also shows its value, so a
/// history with a `Before::Not` is left unchanged. This keeps the search short on invalid
/// histories.
pub fn settle_unique(steps: &mut Vec<Step>) {
    let negative = |step: &Step| matches!(step.before, Before::Not(_));
    if steps.iter().any(negative) {
        return;
    }
    let mut seen: HashMap<u32, u64> = HashMap::new();
    for step in steps.iter() {
        if let (Before::Is(Some(value)), Some(returned)) = (step.before, step.returned) {
            let first = seen.entry(value).or_insert(returned);
            *first = returned.min(*first);
        }
    }
    see_through_swaps(steps, &mut seen);
    steps.retain_mut(|step| match (step.returned, step.written()) {
        (None, Some(value)) => {
            step.returned = seen.get(&value).copied();
            step.returned.is_some()
        }
        _ => true,
    });
}

/// If the value that a swap wrote was seen, the swap has seen the value that it compares with.
fn see_through_swaps(steps: &[Step], seen: &mut HashMap<u32, u64>) {
    let swap = |step: &Step| match (step.returned, step.after) {
        (None, After::Swap { from, to }) => from.zip(to),
        _ => None,
    };
    let swaps: Vec<(u32, u32)> = steps.iter().filter_map(swap).collect();
    let mut settled = false;
    while !settled {
        settled = true;
        for (from, to) in &swaps {
            let Some(by) = seen.get(to).copied() else {
                continue;
            };
            let first = seen.entry(*from).or_insert(u64::MAX);
            if by < *first {
                *first = by;
                settled = false;
            }
        }
    }
}

/// The position of the search: a doubly linked list of the calls and returns not yet explained.
struct Search<'a> {
    steps: &'a [Step],
    entries: Vec<Entry>,
    next: Vec<usize>,
    previous: Vec<usize>,
    state: Register,
    /// The set of explained steps, as the exclusive-or of one random number each. A collision of
    /// two sets in 128 bits is practically impossible.
    explained: u128,
    returns_left: usize,
}

/// One end of a step.
#[derive(Clone, Copy)]
struct Entry {
    step: usize,
    /// For a call: the position of its return, if there is one.
    returns_at: Option<usize>,
    is_call: bool,
}

/// The list's two ends; entry i is at i + 1 in `next` and `previous`.
const HEAD: usize = 0;

impl<'a> Search<'a> {
    fn new(steps: &'a [Step]) -> Search<'a> {
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(steps.len() * 2);
        for (number, step) in steps.iter().enumerate() {
            order.push((step.call, true, number));
            order.extend(step.returned.map(|at| (at, false, number)));
        }
        // At the same time calls come first: then the two overlap, which is the safe
        // interpretation.
        order.sort_unstable_by_key(|(at, is_call, number)| (*at, !is_call, *number));
        let mut returns_at = vec![None; steps.len()];
        for (at, (_, is_call, step)) in order.iter().enumerate() {
            if !is_call {
                returns_at[*step] = Some(at + 1);
            }
        }
        let entry = |(_, is_call, step): &(u64, bool, usize)| Entry {
            step: *step,
            returns_at: returns_at[*step].filter(|_| *is_call),
            is_call: *is_call,
        };
        let tail = order.len() + 1;
        Search {
            steps,
            entries: order.iter().map(entry).collect(),
            next: (1..=tail).chain([tail]).collect(),
            previous: [0].into_iter().chain(0..tail).collect(),
            state: None,
            explained: 0,
            returns_left: steps.iter().filter(|s| s.returned.is_some()).count(),
        }
    }

    fn run(mut self, budget: u64) -> Verdict {
        let mut memo: HashSet<(u128, Register)> = HashSet::new();
        let mut path: Vec<(usize, Register)> = Vec::new();
        let tail = self.entries.len() + 1;
        let mut at = self.next[HEAD];
        for _ in 0..budget {
            if self.returns_left == 0 {
                return Verdict::Linearizable;
            }
            if at != tail && self.entries[at - 1].is_call {
                let step = self.entries[at - 1].step;
                let key = self.explained ^ fingerprint(step);
                match self.steps[step].run(self.state) {
                    Some(state) if memo.insert((key, state)) => {
                        path.push((at, self.state));
                        self.state = state;
                        self.lift(at);
                        at = self.next[HEAD];
                    }
                    _ => at = self.next[at],
                }
                continue;
            }
            // An unexplained return (or the end): the last choice was wrong.
            let Some((choice, state)) = path.pop() else {
                return Verdict::NotLinearizable;
            };
            self.state = state;
            self.unlift(choice);
            at = self.next[choice];
        }
        Verdict::GaveUp
    }

    fn lift(&mut self, call: usize) {
        self.explained ^= fingerprint(self.entries[call - 1].step);
        self.unlink(call);
        if let Some(at) = self.entries[call - 1].returns_at {
            self.unlink(at);
            self.returns_left -= 1;
        }
    }

    fn unlift(&mut self, call: usize) {
        self.explained ^= fingerprint(self.entries[call - 1].step);
        if let Some(at) = self.entries[call - 1].returns_at {
            self.relink(at);
            self.returns_left += 1;
        }
        self.relink(call);
    }

    fn unlink(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn relink(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        self.next[previous] = at;
        self.previous[next] = at;
    }
}

/// A fixed random-looking number for a step (splitmix64, twice).
fn fingerprint(step: usize) -> u128 {
    let mix = |seed: u64| {
        let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let low = mix(step as u64 * 2 + 1);
    (u128::from(mix(low ^ step as u64)) << 64) | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 1_000_000;

    fn step(call: u64, returned: impl Into<Option<u64>>, before: Before, after: After) -> Step {
        Step {
            call,
            returned: returned.into(),
            before,
            after,
        }
    }

    fn write(call: u64, returned: impl Into<Option<u64>>, value: u32) -> Step {
        step(call, returned, Before::Any, After::Become(Some(value)))
    }

    fn read(call: u64, returned: u64, value: u32) -> Step {
        step(call, returned, Before::Is(Some(value)), After::Keep)
    }

    #[test]
    fn a_read_may_see_a_write_that_overlaps_it() {
        let steps = [write(1, 10, 1), write(2, 9, 2), read(11, 12, 1)];
        assert_eq!(check(&steps, BUDGET), Verdict::Linearizable);
    }

    #[test]
    fn a_stale_read_is_found() {
        let steps = [write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)];
        assert_eq!(check(&steps, BUDGET), Verdict::NotLinearizable);
    }

    #[test]
    fn reads_that_see_two_writes_in_two_orders_are_found() {
        let concurrent = [write(1, 100, 1), write(2, 101, 2)];
        let forth_and_back = [read(3, 4, 1), read(5, 6, 2), read(7, 8, 1)];
        let steps = [&concurrent[..], &forth_and_back[..]].concat();
        assert_eq!(check(&steps, BUDGET), Verdict::NotLinearizable);
    }

    #[test]
    fn a_write_that_never_returned_may_show_up_late_but_not_vanish_again() {
        let late = [
            write(1, None, 1),
            write(2, 3, 2),
            read(4, 5, 2),
            read(6, 7, 1),
        ];
        assert_eq!(check(&late, BUDGET), Verdict::Linearizable);
        let gone = [&late[..], &[read(8, 9, 2)][..]].concat();
        assert_eq!(check(&gone, BUDGET), Verdict::NotLinearizable);
    }

    #[test]
    fn settling_drops_what_nobody_saw_and_bounds_what_somebody_did() {
        let mut steps = vec![write(1, None, 1), write(2, None, 2), read(3, 4, 2)];
        settle_unique(&mut steps);
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].returned, Some(4));
        assert_eq!(check(&steps, BUDGET), Verdict::Linearizable);
    }

    #[test]
    fn settling_keeps_a_write_that_only_an_unknown_swap_saw() {
        let swap = After::Swap {
            from: Some(1),
            to: Some(2),
        };
        let mut steps = vec![
            write(1, None, 1),
            step(2, None, Before::Any, swap),
            read(3, 4, 2),
        ];
        settle_unique(&mut steps);
        assert_eq!(steps.len(), 3);
        assert_eq!(check(&steps, BUDGET), Verdict::Linearizable);
    }

    #[test]
    fn settling_keeps_a_write_that_explains_a_failed_swap() {
        let fails = step(3, 4, Before::Not(None), After::Keep);
        let mut steps = vec![write(1, None, 1), fails];
        settle_unique(&mut steps);
        assert_eq!(check(&steps, BUDGET), Verdict::Linearizable);
    }

    #[test]
    fn the_budget_ends_a_search() {
        let steps = [write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)];
        assert_eq!(check(&steps, 2), Verdict::GaveUp);
    }
}
