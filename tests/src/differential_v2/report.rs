//! The results of a run in a readable form.

use std::collections::{BTreeMap, VecDeque};

use super::accepted::accepted;
use super::compare::{Difference, compare};
use super::subject::Answer;
use crate::http::Request;

/// Operations shown before a difference.
const SHOWN: usize = 4;

/// Operations shown with the same first part of the path.
const RELATED: usize = 8;

/// Operations kept to choose from.
const KEPT: usize = 3_000;

/// Differences after which a run stops.
const ENOUGH: usize = 12;

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Requests sent to each server.
    pub requests: usize,
    /// Replies by status; 0 where there was none.
    pub statuses: BTreeMap<u16, usize>,
    /// Events that watchers received.
    pub watched: usize,
    /// Keys that expired at once.
    pub ended: usize,
    /// Accepted differences, by name.
    pub accepted: BTreeMap<&'static str, usize>,
}

/// Compares answers one by one and records the differences.
#[derive(Debug, Default)]
pub struct Report {
    /// The figures.
    pub summary: Summary,
    /// The number of answers that differ.
    pub count: usize,
    /// The stores have diverged: later differences are consequences.
    pub apart: bool,
    /// The differences as text.
    pub text: String,
    recent: VecDeque<(usize, Request, Answer)>,
}

impl Report {
    /// Compares two answers to the request of operation `number`.
    pub fn compare(&mut self, number: usize, request: &Request, ours: &Answer, theirs: &Answer) {
        self.summary.requests += 1;
        let status = theirs.as_ref().map_or(0, |reply| reply.status);
        *self.summary.statuses.entry(status).or_default() += 1;
        let found = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => compare(request, ours, theirs),
            (Err(_), Err(_)) => Vec::new(),
            _ => {
                let line = |answer: &Answer| match answer {
                    Ok(reply) => reply.to_string(),
                    Err(error) => error.clone(),
                };
                let (ours, theirs) = (line(ours), line(theirs));
                vec![Difference::new("answer", Some(&ours), Some(&theirs))]
            }
        };
        let mut left = Vec::new();
        for difference in found {
            match accepted(request, &difference, ours, theirs) {
                Some(rule) => *self.summary.accepted.entry(rule).or_default() += 1,
                None => left.push(difference),
            }
        }
        if !left.is_empty() {
            self.add(number, request, &left, ours, theirs);
        }
        self.remember(number, request, theirs);
    }

    /// Records another fault.
    pub fn complain(&mut self, number: usize, text: &str) {
        self.count += 1;
        self.text += &format!("{number}: {text}\n");
    }

    /// Whether to stop.
    pub fn enough(&self) -> bool {
        self.apart || ENOUGH <= self.count
    }

    fn add(
        &mut self,
        number: usize,
        request: &Request,
        differences: &[Difference],
        ours: &Answer,
        theirs: &Answer,
    ) {
        self.count += 1;
        let index = |answer: &Answer| {
            let reply = answer.as_ref().ok()?;
            reply.number("x-etcd-index")
        };
        self.apart |= index(ours) != index(theirs);
        self.text += &self.before(number, request);
        let what: Vec<&str> = differences.iter().map(|one| one.what.as_str()).collect();
        self.text += &format!("{number}: {request}\n  differs in: {}\n", what.join(", "));
        for (who, answer) in [("ours:  ", ours), ("theirs:", theirs)] {
            match answer {
                Ok(reply) => self.text += &format!("  {who} {reply}\n"),
                Err(error) => self.text += &format!("  {who} {error}\n"),
            }
        }
    }

    /// The preceding operations, and older ones on the same keys.
    fn before(&self, number: usize, request: &Request) -> String {
        let root = root(request);
        let last = self.recent.len().saturating_sub(SHOWN);
        let (older, newest) = self.recent.make_slices(last);
        let related = older.iter().filter(|(at, other, answer)| {
            *at < number && wrote(answer) && self::root(other) == root
        });
        let related: Vec<_> = related.collect();
        let shown = &related[related.len().saturating_sub(RELATED)..];
        let mut text = String::new();
        for (at, other, answer) in shown.iter().copied().chain(newest.iter()) {
            let status = answer.as_ref().map_or(0, |reply| reply.status);
            text += &format!("  before, {at}: {other} -> {status}\n");
        }
        text
    }

    fn remember(&mut self, number: usize, request: &Request, answer: &Answer) {
        self.recent
            .push_back((number, request.clone(), answer.clone()));
        if KEPT < self.recent.len() {
            self.recent.pop_front();
        }
    }
}

/// The two slices of the queue, as vectors of references.
trait Slices<T> {
    fn make_slices(&self, at: usize) -> (Vec<T>, Vec<T>);
}

impl<T: Clone> Slices<T> for VecDeque<T> {
    fn make_slices(&self, at: usize) -> (Vec<T>, Vec<T>) {
        let older = self.iter().take(at).cloned().collect();
        (older, self.iter().skip(at).cloned().collect())
    }
}

/// Whether the answer reports a write.
fn wrote(answer: &Answer) -> bool {
    let Ok(reply) = answer else {
        return false;
    };
    reply.status < 300 && !reply.body.starts_with(b"{\"action\":\"get\"")
}

/// The first part of the key.
fn root(request: &Request) -> String {
    let target = request.target_text();
    let path = target.split('?').next().unwrap_or_default().to_string();
    path.trim_start_matches("/v2/keys/")
        .split('/')
        .next()
        .unwrap_or_default()
        .to_string()
}
