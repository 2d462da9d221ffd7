//! Splits a history of the tree into the steps on each file, by values alone: the input of `wgl`.
//!
//! Supported is everything that changes or reads a file by its path, and deletions of a directory
//! above it. Files that ever had a TTL, their own or a directory's above them, are left out: no
//! client requests an expiry. Errors that contain the value, or that there is none, count as reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use keelson_core::tree::{Action, ErrorCode, Event, TreeError};
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use super::{TreeAnswer, TreeCall, TreeHistory, TreeOperation};
use crate::check::wgl::{self, After, Before, Register, Step, Verdict};
use crate::history::Outcome;

/// Bound on the steps of the search for one file.
const BUDGET: u64 = 2_000_000;

/// Checks every file. Returns the number of decided ones; the error names one without a valid
/// order.
pub fn check(history: &TreeHistory) -> Result<usize, String> {
    let mut decided = 0;
    for (path, mut steps) in by_path(history) {
        wgl::settle_unique(&mut steps);
        match wgl::check(&steps, BUDGET) {
            Verdict::Linearizable => decided += 1,
            Verdict::GaveUp => {}
            Verdict::NotLinearizable => {
                let (count, path) = (steps.len(), path.escape_ascii());
                return Err(format!("no order explains {count} operations on {path}"));
            }
        }
    }
    Ok(decided)
}

/// The steps on each file.
pub fn by_path(history: &TreeHistory) -> BTreeMap<Bytes, Vec<Step>> {
    let mut split = Split::new(history);
    for operation in &history.operations {
        split.add(operation);
    }
    split.steps
}

#[derive(Default)]
struct Split {
    steps: BTreeMap<Bytes, Vec<Step>>,
    numbers: HashMap<Bytes, u32>,
}

impl Split {
    /// Collects every file that is named and can have no TTL.
    fn new(history: &TreeHistory) -> Split {
        let mut split = Split::default();
        let mut ending = BTreeSet::new();
        for operation in &history.operations {
            let TreeCall::Change(change) = &operation.request else {
                continue;
            };
            // An in-order file is created below the path in the request.
            if change.op() == Op::CreateInOrder {
                continue;
            }
            split.steps.entry(change.path.clone()).or_default();
            if change.expires_ns != 0 {
                ending.insert(change.path.clone());
            }
        }
        let ends = |path: &Bytes| ending.iter().any(|end| path == end || is_below(path, end));
        split.steps.retain(|path, _| !ends(path));
        split
    }

    fn add(&mut self, operation: &TreeOperation) {
        match (&operation.request, &operation.outcome) {
            (_, Outcome::Refused(_)) | (TreeCall::Get { quorum: false, .. }, _) => {}
            (TreeCall::Get { path, .. }, Outcome::Ok(TreeAnswer::Got(answer))) => {
                let seen = match answer {
                    Ok((node, _)) => node.value.clone(),
                    Err(_) => None,
                };
                let before = Before::Is(self.state(seen.as_ref()));
                self.push(operation, path, before, After::Keep);
            }
            (TreeCall::Change(_), Outcome::Ok(TreeAnswer::Changed(Ok(event)))) => {
                self.add_event(operation, event);
            }
            (TreeCall::Change(change), Outcome::Ok(TreeAnswer::Changed(Err(error)))) => {
                self.add_refusal(operation, change, error);
            }
            (TreeCall::Change(change), Outcome::Unknown) => self.add_unknown(operation, change),
            _ => {}
        }
    }

    fn add_event(&mut self, operation: &TreeOperation, event: &Event) {
        let prev = event.prev.as_ref().and_then(|prev| prev.value.as_ref());
        let before = Before::Is(self.state(prev));
        let after = After::Become(self.state(event.node.value.as_ref()));
        self.push(operation, &event.node.key, before, after);
        if event.action == Action::Delete {
            for path in self.files_below(&event.node.key) {
                let (before, after) = match event.removed.contains(&path) {
                    true => (Before::Any, After::Become(None)),
                    false => (Before::Is(None), After::Keep),
                };
                self.push(operation, &path, before, after);
            }
        }
    }

    fn add_refusal(&mut self, operation: &TreeOperation, change: &TreeRequest, error: &TreeError) {
        let seen = match error.code {
            ErrorCode::KeyNotFound | ErrorCode::NotDir | ErrorCode::NotFile => None,
            ErrorCode::TestFailed => match found_instead(change, &error.cause) {
                Some(value) => Some(value),
                None => return,
            },
            _ => return,
        };
        if change.op() != Op::CreateInOrder {
            let before = Before::Is(self.state(seen.as_ref()));
            self.push(operation, &change.path, before, After::Keep);
        }
    }

    fn add_unknown(&mut self, operation: &TreeOperation, change: &TreeRequest) {
        let value = (!change.dir).then_some(&change.value);
        let to = self.state(value);
        let after = match change.op() {
            // A client that names such a file has read its name elsewhere.
            Op::CreateInOrder => return,
            // The value is unchanged.
            _ if change.refresh => return,
            Op::CompareAndSwap if !change.prev_value.is_empty() => After::Swap {
                from: self.state(Some(&change.prev_value)),
                to,
            },
            Op::Set | Op::Create | Op::Update | Op::CompareAndSwap => After::Become(to),
            Op::Delete | Op::CompareAndDelete => After::Become(None),
        };
        self.push(operation, &change.path, Before::Any, after);
        if change.op() == Op::Delete {
            for path in self.files_below(&change.path) {
                self.push(operation, &path, Before::Any, After::Become(None));
            }
        }
    }

    fn push(&mut self, operation: &TreeOperation, path: &Bytes, before: Before, after: After) {
        let returned = operation.answer().map(|(_, returned)| returned.number);
        let step = Step {
            call: operation.call.number,
            returned,
            before,
            after,
        };
        if let Some(steps) = self.steps.get_mut(path) {
            steps.push(step);
        }
    }

    fn files_below(&self, dir: &Bytes) -> Vec<Bytes> {
        let paths = self.steps.keys();
        paths.filter(|path| is_below(path, dir)).cloned().collect()
    }

    fn state(&mut self, value: Option<&Bytes>) -> Register {
        let next = self.numbers.len() as u32;
        value.map(|value| *self.numbers.entry(value.clone()).or_insert(next))
    }
}

fn is_below(path: &Bytes, dir: &Bytes) -> bool {
    let rest = path.strip_prefix(&dir[..]);
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}

/// The value that a compare found: "[expected != found]".
fn found_instead(change: &TreeRequest, cause: &Bytes) -> Option<Bytes> {
    let wanted = &change.prev_value;
    if wanted.is_empty() {
        return None;
    }
    let rest = cause.strip_prefix(b"[")?.strip_prefix(&wanted[..])?;
    let rest = rest.strip_prefix(b" != ")?;
    let end = rest.iter().position(|byte| *byte == b']')?;
    Some(cause.slice_ref(&rest[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tree;

    #[derive(Default)]
    struct Run {
        history: TreeHistory,
        tree: Tree,
    }

    impl Run {
        fn ask(&mut self, change: TreeRequest) {
            let request = TreeCall::Change(change.clone());
            let number = self.history.call(0, 1, request, 0);
            let answer = TreeAnswer::Changed(self.tree.apply(&change));
            self.history.finish(number, Outcome::Ok(answer), 0);
        }

        fn get(&mut self, value: Option<&'static str>) {
            let get = TreeCall::Get {
                path: "/1/d/a".into(),
                recursive: false,
                quorum: true,
            };
            let number = self.history.call(0, 1, get, 0);
            let mut node = keelson_core::tree::NodeExtern::default();
            node.value = value.map(Bytes::from);
            let answer = TreeAnswer::Got(Ok((node, 0)));
            self.history.finish(number, Outcome::Ok(answer), 0);
        }
    }

    fn request(op: Op, path: &'static str, value: &'static str) -> TreeRequest {
        TreeRequest {
            op: op.into(),
            path: path.into(),
            value: value.into(),
            recursive: true,
            ..TreeRequest::default()
        }
    }

    fn swap(from: &'static str, to: &'static str) -> TreeRequest {
        TreeRequest {
            prev_value: from.into(),
            ..request(Op::CompareAndSwap, "/1/d/a", to)
        }
    }

    #[test]
    fn what_is_right_has_an_order() {
        let mut run = Run::default();
        run.ask(request(Op::Set, "/1/d/a", "1"));
        run.ask(swap("1", "2"));
        run.ask(swap("1", "3"));
        run.get(Some("2"));
        run.ask(request(Op::Delete, "/1/d", ""));
        run.get(None);
        assert_eq!(check(&run.history), Ok(2));
    }

    #[test]
    fn files_that_may_end_are_left_out_and_no_others() {
        let mut run = Run::default();
        for (op, path) in [
            (Op::Set, "/1/d/a"),
            (Op::Set, "/1/e/b"),
            (Op::CreateInOrder, "/1/d"),
            (Op::Update, "/1/e"),
        ] {
            let ends = matches!(op, Op::CreateInOrder | Op::Update);
            run.ask(TreeRequest {
                expires_ns: i64::from(ends),
                ..request(op, path, "")
            });
        }
        let paths: Vec<Bytes> = by_path(&run.history).into_keys().collect();
        assert_eq!(paths, ["/1/d/a"]);
    }

    #[test]
    fn a_read_of_what_went_with_its_directory_is_found() {
        let mut run = Run::default();
        run.ask(request(Op::Set, "/1/d/a", "1"));
        run.ask(request(Op::Delete, "/1/d", ""));
        run.get(Some("1"));
        assert!(check(&run.history).is_err());
    }

    #[test]
    fn a_refusal_that_names_an_old_value_is_found() {
        let mut run = Run::default();
        run.ask(request(Op::Set, "/1/d/a", "1"));
        run.ask(swap("0", "3"));
        let cause = "[0 != 1]";
        run.ask(request(Op::Set, "/1/d/a", "2"));
        let number = run.history.call(0, 1, TreeCall::Change(swap("0", "4")), 0);
        let stale = TreeError {
            code: ErrorCode::TestFailed,
            cause: cause.into(),
            index: 9,
        };
        let answer = TreeAnswer::Changed(Err(stale));
        run.history.finish(number, Outcome::Ok(answer), 0);
        assert!(check(&run.history).is_err());
    }
}
