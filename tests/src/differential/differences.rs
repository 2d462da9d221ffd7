//! The differences of a run in a readable form.

use std::collections::VecDeque;
use std::fmt::Debug;

/// Operations shown before a difference.
const SHOWN: usize = 3;

/// Differences after which a run stops.
const DIFFERENCES: usize = 10;

/// Operations and answers longer than this are cut in messages.
const CUT: usize = 1_500;

/// The differences that are not accepted.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub(super) count: usize,
    /// The stores have diverged: later differences are consequences.
    apart: bool,
    pub(super) text: String,
    /// The last operations and etcd's answers.
    recent: VecDeque<String>,
}

impl Differences {
    /// Adds one. With `apart` the stores have diverged.
    pub(super) fn add<A: Debug>(
        &mut self,
        number: usize,
        operation: &impl Debug,
        (ours, theirs): (&A, &A),
        apart: bool,
    ) {
        self.count += 1;
        self.apart |= apart;
        for before in self.recent.drain(..) {
            self.text += &format!("  before: {before}\n");
        }
        let [ours, theirs] = [ours, theirs].map(|answer| cut(format!("{answer:?}")));
        let operation = cut(format!("{operation:?}"));
        self.text += &format!("{number}: {operation}\n  ours:   {ours}\n  theirs: {theirs}\n");
    }

    /// The watchers of the servers differ, so that all later ones may.
    pub(super) fn add_watch(&mut self, number: usize, text: &str) {
        self.count += 1;
        self.apart = true;
        self.text += &format!("before {number}: a watcher has received\n  ours:\n    {text}\n");
    }

    pub(super) fn enough(&self) -> bool {
        self.apart || self.count >= DIFFERENCES
    }

    pub(super) fn remember(&mut self, number: usize, operation: &impl Debug, answer: &impl Debug) {
        let [operation, answer] = [format!("{operation:?}"), format!("{answer:?}")].map(cut);
        let recent = format!("{number}: {operation} -> {answer}");
        self.recent.push_back(recent);
        if self.recent.len() > SHOWN {
            self.recent.pop_front();
        }
    }
}

fn cut(text: String) -> String {
    let mut cut: String = text.chars().take(CUT).collect();
    if cut.len() < text.len() {
        cut += "...";
    }
    cut
}
