//! Histories: requests with their clients, times and outcomes.
//!
//! Every engine of the test suite (simulator, chaos, differential) records in this form, and every
//! checker reads it. It is independent of members and faults.

use std::io::{self, Write};

use bytes::Bytes;
pub use keelson_model::kv::{Request, Response};
use serde_json::json;

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<A = Response> {
    /// Answered.
    Ok(A),
    /// Refused for good: it had no effect and never will have.
    Refused(String),
    /// Unknown: it may take effect at any time from its call on, or never.
    Unknown,
}

/// A moment: the number makes all moments of a history different, the milliseconds are for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Rises by one with every call and every return.
    pub number: u64,
    /// Milliseconds since the start.
    pub at_ms: u64,
}

/// One operation, from its call to its return.
#[derive(Clone, Debug)]
pub struct Operation<Q = Request, A = Response> {
    /// The client's number.
    pub client: u64,
    /// The member that got the request.
    pub member: u64,
    /// The request.
    pub request: Q,
    /// The time of the call.
    pub call: Moment,
    /// When its client stopped waiting. For an unknown outcome it is no bound.
    pub returned: Option<Moment>,
    /// The outcome.
    pub outcome: Outcome<A>,
}

impl<Q, A> Operation<Q, A> {
    /// The response and its time, if it came.
    pub fn answer(&self) -> Option<(&A, Moment)> {
        match (&self.outcome, self.returned) {
            (Outcome::Ok(response), Some(returned)) => Some((response, returned)),
            _ => None,
        }
    }
}

/// All operations of the clients of one run, in the order of their calls. The type parameters
/// default to the v3 API's.
#[derive(Clone, Debug)]
pub struct History<Q = Request, A = Response> {
    /// The operations; an operation's number is its index here.
    pub operations: Vec<Operation<Q, A>>,
    moments: u64,
}

impl<Q, A> Default for History<Q, A> {
    fn default() -> History<Q, A> {
        History {
            operations: Vec::new(),
            moments: 0,
        }
    }
}

impl<Q, A> History<Q, A> {
    /// Records a call; returns the operation's number.
    pub fn call(&mut self, client: u64, member: u64, request: Q, at_ms: u64) -> usize {
        let call = self.moment(at_ms);
        self.operations.push(Operation {
            client,
            member,
            request,
            call,
            returned: None,
            outcome: Outcome::Unknown,
        });
        self.operations.len() - 1
    }

    /// Records an answer, or that the client gave up.
    pub fn finish(&mut self, number: usize, outcome: Outcome<A>, at_ms: u64) {
        let returned = self.moment(at_ms);
        let operation = &mut self.operations[number];
        assert!(operation.returned.is_none(), "an operation returns once");
        operation.returned = Some(returned);
        operation.outcome = outcome;
    }

    /// Writes one JSON object on each line, for the analysis of a failure.
    pub fn write_lines(
        &self,
        to: &mut dyn Write,
        request_text: impl Fn(&Q) -> String,
        answer_text: impl Fn(&A) -> String,
    ) -> io::Result<()> {
        for (number, operation) in self.operations.iter().enumerate() {
            let outcome = match &operation.outcome {
                Outcome::Ok(answer) => answer_text(answer),
                Outcome::Refused(why) => format!("refused: {why}"),
                Outcome::Unknown => "unknown".to_owned(),
            };
            let line = json!({
                "operation": number,
                "client": operation.client,
                "member": format!("{:x}", operation.member),
                "call": [operation.call.number, operation.call.at_ms],
                "returned": operation.returned.map(|moment| [moment.number, moment.at_ms]),
                "request": request_text(&operation.request),
                "outcome": outcome,
            });
            writeln!(to, "{line}")?;
        }
        Ok(())
    }

    fn moment(&mut self, at_ms: u64) -> Moment {
        self.moments += 1;
        Moment {
            number: self.moments,
            at_ms,
        }
    }
}

impl History {
    /// Writes one JSON object on each line.
    pub fn write_json(&self, to: &mut dyn Write) -> io::Result<()> {
        self.write_lines(to, request_text, |response| format!("{response:?}"))
    }
}

/// A request in a readable form.
pub fn request_text(request: &Request) -> String {
    match request {
        Request::Range(range) => format!(
            "range {}{}{}{}",
            span(&range.key, &range.range_end),
            if range.serializable {
                " serializable"
            } else {
                ""
            },
            nonzero(" limit ", range.limit),
            nonzero(" revision ", range.revision),
        ),
        Request::Put(put) => format!("put {} {}", text(&put.key), text(&put.value)),
        Request::DeleteRange(delete) => {
            format!("delete {}", span(&delete.key, &delete.range_end))
        }
        Request::Txn(txn) => format!("txn {txn:?}"),
        Request::Compact(compact) => format!("compact {}", compact.revision),
    }
}

fn span(key: &Bytes, range_end: &Bytes) -> String {
    match range_end.is_empty() {
        true => text(key),
        false => format!("{}..{}", text(key), text(range_end)),
    }
}

fn text(bytes: &Bytes) -> String {
    bytes.escape_ascii().to_string()
}

fn nonzero(label: &str, number: i64) -> String {
    match number {
        0 => String::new(),
        _ => format!("{label}{number}"),
    }
}
