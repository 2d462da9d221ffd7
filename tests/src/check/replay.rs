//! Revision replay: every response carries its revision, so the order is known. It is replayed on
//! the model, and the responses are compared.
//!
//! Linear in the length of the history. After etcd's `tests/robustness/validate`: writes of unknown
//! outcome are settled by a member's final state. Revisions are used only as a proposed order: with
//! a wrong one, some response cannot match the model's.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, request_op,
    response_op,
};

use crate::history::{History, Operation, Outcome, Request, Response, request_text};
use keelson_model::kv::Kv;

/// The changes of one revision, as in a member's final state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision.
    pub revision: i64,
    /// The keys and their new values, in key order; `None` for a deleted key.
    pub changes: BTreeMap<Bytes, Option<Bytes>>,
    /// It was not made by a client of the history, whose keys are others.
    pub by_others: bool,
}

/// The figures of a successful check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Responses compared with the model's.
    pub responses: usize,
    /// Writes of unknown outcome that have taken effect.
    pub settled: usize,
}

/// Checks a history against every revision of a member's final state, from the first one (2) on.
/// The error names what cannot be explained.
pub fn check(history: &History, commits: &[Commit]) -> Result<Checked, String> {
    let mut replay = Replay::new(history)?;
    replay.observe_at(1)?;
    for commit in commits {
        replay.commit(commit)?;
        replay.observe_at(commit.revision)?;
    }
    replay.nothing_is_left()?;
    real_time(history, &replay.settled_at)?;
    Ok(replay.checked)
}

/// A transaction that makes these changes.
fn writing(commit: &Commit) -> TxnRequest {
    let op = |(key, value): (&Bytes, &Option<Bytes>)| {
        let key = key.clone();
        let request = match value.clone() {
            Some(value) => request_op::Request::RequestPut(PutRequest {
                key,
                value,
                ..PutRequest::default()
            }),
            None => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp {
            request: Some(request),
        }
    };
    TxnRequest {
        success: commit.changes.iter().map(op).collect(),
        ..TxnRequest::default()
    }
}

struct Replay<'a> {
    operations: &'a [Operation],
    model: Kv,
    /// Acknowledged writes by revision.
    written: BTreeMap<i64, usize>,
    /// Answers without a change, by revision.
    observed: BTreeMap<i64, Vec<usize>>,
    /// Writes of unknown outcome, by the values they may put.
    unknown_puts: HashMap<&'a Bytes, usize>,
    /// Writes of unknown outcome that may delete, in the order of their calls.
    unknown_deletes: Vec<usize>,
    /// The revisions of operations of unknown outcome that have taken effect.
    settled_at: BTreeMap<usize, i64>,
    checked: Checked,
}

impl<'a> Replay<'a> {
    fn new(history: &'a History) -> Result<Replay<'a>, String> {
        let operations = &history.operations[..];
        let mut replay = Replay {
            operations,
            model: Kv::default(),
            written: BTreeMap::new(),
            observed: BTreeMap::new(),
            unknown_puts: HashMap::new(),
            unknown_deletes: Vec::new(),
            settled_at: BTreeMap::new(),
            checked: Checked::default(),
        };
        for (number, operation) in operations.iter().enumerate() {
            match operation.answer() {
                Some((response, _)) if changes_something(response) => {
                    let other = replay.written.insert(response.revision(), number);
                    if let Some(other) = other {
                        return Err(replay.complain(
                            number,
                            &format!("has the same revision as operation {other}"),
                        ));
                    }
                }
                Some((response, _)) => {
                    let revision = response.revision();
                    replay.observed.entry(revision).or_default().push(number);
                }
                None if operation.outcome == Outcome::Unknown => {
                    replay.remember_unknown(number);
                }
                None => {}
            }
        }
        Ok(replay)
    }

    fn remember_unknown(&mut self, number: usize) {
        match &self.operations[number].request {
            Request::Put(put) => drop(self.unknown_puts.insert(&put.value, number)),
            Request::DeleteRange(_) => self.unknown_deletes.push(number),
            Request::Txn(txn) => {
                for value in values_put(txn) {
                    self.unknown_puts.insert(value, number);
                }
                self.unknown_deletes.push(number);
            }
            Request::Range(_) | Request::Compact(_) => {}
        }
    }

    /// Replays the next revision: the model must write the same.
    fn commit(&mut self, commit: &Commit) -> Result<(), String> {
        if commit.by_others {
            let _ = self.model.apply(&Request::Txn(writing(commit)));
            return match self.model.revision() == commit.revision {
                true => Ok(()),
                false => Err(format!("{commit:?} is not the next revision")),
            };
        }
        let acknowledged = self.written.remove(&commit.revision);
        let Some(number) = acknowledged.or_else(|| self.settle(commit)) else {
            return Err(format!(
                "nobody known wrote {commit:?}, or somebody wrote it twice"
            ));
        };
        let request = &self.operations[number].request;
        let expected = self.model.apply(request);
        if self.model.revision() != commit.revision {
            let problem = format!("is revision {} but writes nothing there", commit.revision);
            return Err(self.complain(number, &problem));
        }
        if self.model.changes() != &commit.changes {
            return Err(self.complain(number, &format!("cannot have made {commit:?}")));
        }
        match expected {
            Ok(expected) => self.compare(number, &expected),
            Err(refusal) => Err(self.complain(number, &format!("must be refused: {refusal:?}"))),
        }
    }

    /// The write of unknown outcome that made this revision, if any.
    fn settle(&mut self, commit: &Commit) -> Option<usize> {
        let put = commit.changes.values().flatten().next();
        let number = match put {
            Some(value) => self.unknown_puts.remove(value)?,
            None => {
                let at = self.unknown_deletes.iter().position(|number| {
                    let request = &self.operations[*number].request;
                    let done = self.model.apply(request).is_ok();
                    let fits = done && self.model.changes() == &commit.changes;
                    if !self.model.changes().is_empty() {
                        self.model.undo();
                    }
                    fits
                })?;
                self.unknown_deletes.remove(at)
            }
        };
        self.unknown_deletes.retain(|unknown| *unknown != number);
        self.checked.settled += 1;
        self.settled_at.insert(number, commit.revision);
        Some(number)
    }

    /// Compares all answers with this revision that changed nothing.
    fn observe_at(&mut self, revision: i64) -> Result<(), String> {
        for number in self.observed.remove(&revision).unwrap_or_default() {
            // The revision at which a compaction took effect is not known.
            if matches!(self.operations[number].request, Request::Compact(_)) {
                continue;
            }
            let expected = self.model.apply(&self.operations[number].request);
            if self.model.revision() != revision {
                return Err(self.complain(number, "must write something but says it did not"));
            }
            match expected {
                Ok(expected) => self.compare(number, &expected)?,
                Err(refusal) => {
                    return Err(self.complain(number, &format!("must be refused: {refusal:?}")));
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, number: usize, expected: &Response) -> Result<(), String> {
        let Some((response, _)) = self.operations[number].answer() else {
            return Ok(());
        };
        self.checked.responses += 1;
        let (expected, got) = (comparable(expected), comparable(response));
        if expected == got {
            return Ok(());
        }
        Err(self.complain(
            number,
            &format!("answered\n  {got:?}\ninstead of\n  {expected:?}"),
        ))
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        let last = self.model.revision();
        if let Some((revision, number)) = self.written.first_key_value() {
            let problem = format!("was acknowledged as revision {revision} and is lost ({last})");
            return Err(self.complain(*number, &problem));
        }
        match self.observed.first_key_value() {
            Some((revision, numbers)) => Err(self.complain(
                numbers[0],
                &format!("saw revision {revision}, which does not exist (last is {last})"),
            )),
            None => Ok(()),
        }
    }

    fn complain(&self, number: usize, problem: &str) -> String {
        complain(&self.operations[number], number, problem)
    }
}

fn complain(operation: &Operation, number: usize, problem: &str) -> String {
    let request = request_text(&operation.request);
    let at_ms = operation.call.at_ms;
    let member = operation.member;
    format!("operation {number} ({request}, called at {at_ms} ms on {member:x}) {problem}")
}

/// Checks real-time order: an operation that began after another had returned comes after it. Only
/// serializable reads may see older state.
fn real_time(history: &History, settled_at: &BTreeMap<usize, i64>) -> Result<(), String> {
    let operations = &history.operations;
    let answers = operations.iter().filter_map(Operation::answer);
    let mut returns: Vec<(u64, i64)> = answers
        .map(|(response, returned)| (returned.number, response.revision()))
        .collect();
    returns.sort_unstable();
    let mut returned = returns.into_iter().peekable();
    let mut highest = 0;
    // Operations are recorded in the order of their calls.
    for (number, operation) in operations.iter().enumerate() {
        while let Some((_, revision)) = returned.next_if(|(at, _)| *at < operation.call.number) {
            highest = highest.max(revision);
        }
        let (revision, writes) = match operation.answer() {
            Some((response, _)) => (response.revision(), changes_something(response)),
            None => match settled_at.get(&number) {
                Some(revision) => (*revision, true),
                None => continue,
            },
        };
        let serializable = matches!(&operation.request, Request::Range(r) if r.serializable);
        let in_order = match (serializable, writes) {
            (true, _) => true,
            (false, true) => highest < revision,
            (false, false) => highest <= revision,
        };
        if !in_order {
            return Err(complain(
                operation,
                number,
                &format!(
                    "is at revision {revision}, but revision {highest} was known before its call"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether a response reports a write.
fn changes_something(response: &Response) -> bool {
    match response {
        Response::Put(_) => true,
        Response::DeleteRange(response) => 0 < response.deleted,
        Response::Txn(response) => response.responses.iter().any(op_changes_something),
        Response::Range(_) | Response::Compact(_) => false,
    }
}

fn op_changes_something(op: &ResponseOp) -> bool {
    match op.response.as_ref() {
        Some(response_op::Response::ResponsePut(_)) => true,
        Some(response_op::Response::ResponseDeleteRange(response)) => 0 < response.deleted,
        Some(response_op::Response::ResponseTxn(response)) => {
            response.responses.iter().any(op_changes_something)
        }
        Some(response_op::Response::ResponseRange(_)) | None => false,
    }
}

fn values_put(txn: &TxnRequest) -> Vec<&Bytes> {
    let operations = txn.success.iter().chain(&txn.failure);
    let values = operations.flat_map(|op| match op.request.as_ref() {
        Some(request_op::Request::RequestPut(put)) => vec![&put.value],
        Some(request_op::Request::RequestTxn(nested)) => values_put(nested),
        _ => Vec::new(),
    });
    values.collect()
}

/// A response without the parts that only a real server has: ids and terms, and headers inside a
/// transaction.
fn comparable(response: &Response) -> Response {
    let mut response = response.clone();
    let revision = response.revision();
    let header = Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    });
    match &mut response {
        Response::Range(response) => response.header = header,
        Response::Put(response) => response.header = header,
        Response::DeleteRange(response) => response.header = header,
        Response::Txn(response) => {
            response.header = header;
            response.responses.iter_mut().for_each(strip_header);
        }
        Response::Compact(response) => response.header = header,
    }
    response
}

fn strip_header(op: &mut ResponseOp) {
    match op.response.as_mut() {
        Some(response_op::Response::ResponseRange(response)) => response.header = None,
        Some(response_op::Response::ResponsePut(response)) => response.header = None,
        Some(response_op::Response::ResponseDeleteRange(response)) => response.header = None,
        Some(response_op::Response::ResponseTxn(response)) => {
            response.header = None;
            response.responses.iter_mut().for_each(strip_header);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

    fn put(value: &'static str) -> Request {
        Request::Put(PutRequest {
            key: "k".into(),
            value: value.into(),
            ..PutRequest::default()
        })
    }

    fn get() -> Request {
        Request::Range(RangeRequest {
            key: "k".into(),
            ..RangeRequest::default()
        })
    }

    fn delete() -> Request {
        Request::DeleteRange(DeleteRangeRequest {
            key: "k".into(),
            ..DeleteRangeRequest::default()
        })
    }

    /// A perfect server, and the history of its answers.
    #[derive(Default)]
    struct Server {
        model: Kv,
        history: History,
        commits: Vec<Commit>,
    }

    impl Server {
        fn run(&mut self, request: Request) -> Response {
            let response = self.model.apply(&request).unwrap();
            if !self.model.changes().is_empty() {
                self.commits.push(Commit {
                    by_others: false,
                    revision: self.model.revision(),
                    changes: self.model.changes().clone(),
                });
            }
            response
        }

        fn answered(&mut self, request: Request) {
            let number = self.history.call(0, 1, request.clone(), 0);
            let response = self.run(request);
            self.history.finish(number, Outcome::Ok(response), 0);
        }

        fn check(&self) -> Result<Checked, String> {
            check(&self.history, &self.commits)
        }
    }

    #[test]
    fn a_perfect_server_passes() {
        let mut server = Server::default();
        for request in [put("1"), get(), delete(), delete(), get(), put("2"), get()] {
            server.answered(request);
        }
        let lost_answer = server.history.call(0, 1, delete(), 0);
        server.run(delete());
        server.history.finish(lost_answer, Outcome::Unknown, 0);
        server.answered(get());
        let checked = server.check().unwrap();
        assert_eq!((checked.responses, checked.settled), (8, 1));
    }

    #[test]
    fn a_lost_write_is_found() {
        let mut server = Server::default();
        server.answered(put("1"));
        server.commits.clear();
        assert!(server.check().unwrap_err().contains("is lost"));
    }

    #[test]
    fn a_write_nobody_asked_for_is_found() {
        let mut server = Server::default();
        server.run(put("1"));
        assert!(server.check().unwrap_err().contains("nobody known"));
    }

    #[test]
    fn a_write_done_twice_is_found() {
        let mut server = Server::default();
        let number = server.history.call(0, 1, put("1"), 0);
        server.run(put("1"));
        server.run(put("1"));
        server.history.finish(number, Outcome::Unknown, 0);
        assert!(server.check().unwrap_err().contains("twice"));
    }

    #[test]
    fn a_stale_read_is_found_though_its_content_is_right_for_its_revision() {
        let mut server = Server::default();
        server.answered(put("1"));
        let stale = server.model.apply(&get()).unwrap();
        server.answered(put("2"));
        let number = server.history.call(0, 1, get(), 0);
        server.history.finish(number, Outcome::Ok(stale), 0);
        assert!(
            server
                .check()
                .unwrap_err()
                .contains("known before its call")
        );
    }

    #[test]
    fn a_wrong_value_is_found() {
        let mut server = Server::default();
        server.answered(put("1"));
        let number = server.history.call(0, 1, get(), 0);
        let Response::Range(mut response) = server.model.apply(&get()).unwrap() else {
            panic!("a get answers a range");
        };
        response.kvs[0].version = 2;
        let outcome = Outcome::Ok(Response::Range(response));
        server.history.finish(number, outcome, 0);
        assert!(server.check().unwrap_err().contains("instead of"));
    }
}
