//! Histories of the v2 API: requests, answers, and whether the answers are possible.
//!
//! `replay` is the first method: every answer carries the tree's index, so the order is known.
//! `register` is the second: it uses the values of one key at a time, and searches.

pub mod register;
pub mod replay;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::tree::{Event, NodeExtern, TreeError};
use keelson_proto::internal::TreeRequest;

use crate::history::{History, Operation};

/// A request to the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum TreeCall {
    /// A change.
    Change(TreeRequest),
    /// A read.
    Get {
        /// The path.
        path: Bytes,
        /// Whether the subtree is included.
        recursive: bool,
        /// Whether the read is linearizable, or from the member's own state.
        quorum: bool,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum TreeAnswer {
    /// The event of the change, or the error.
    Changed(Result<Arc<Event>, TreeError>),
    /// The node and the tree's index, or the error.
    Got(Result<(NodeExtern, u64), TreeError>),
}

impl TreeAnswer {
    /// X-Etcd-Index.
    pub fn index(&self) -> u64 {
        match self {
            TreeAnswer::Changed(Ok(event)) => event.index,
            TreeAnswer::Got(Ok((_, index))) => *index,
            TreeAnswer::Changed(Err(error)) | TreeAnswer::Got(Err(error)) => error.index,
        }
    }
}

/// The history of the tree's clients.
pub type TreeHistory = History<TreeCall, TreeAnswer>;

/// One operation of that history.
pub type TreeOperation = Operation<TreeCall, TreeAnswer>;

impl TreeHistory {
    /// Writes one JSON object a line.
    pub fn write_json(&self, to: &mut dyn Write) -> io::Result<()> {
        self.write_lines(to, text, |answer| format!("{answer:?}"))
    }
}

/// A request in a readable form.
pub fn text(request: &TreeCall) -> String {
    match request {
        TreeCall::Change(change) => change_text(change),
        TreeCall::Get {
            path,
            recursive,
            quorum,
        } => {
            let path = path.escape_ascii();
            format!("get {path} recursive={recursive} quorum={quorum}")
        }
    }
}

fn change_text(change: &TreeRequest) -> String {
    let path = change.path.escape_ascii();
    let mut text = format!("{} {path}", change.op().as_str_name());
    let mut add = |name: &str, value: &dyn std::fmt::Display, is: bool| {
        if is {
            let _ = write!(text, " {name}={value}");
        }
    };
    let (value, prev) = (&change.value, &change.prev_value);
    add("value", &value.escape_ascii(), !value.is_empty());
    add("prevValue", &prev.escape_ascii(), !prev.is_empty());
    add("prevIndex", &change.prev_index, change.prev_index != 0);
    let left_ms = (change.expires_ns - change.time_ns) / 1_000_000;
    add("ttl_ms", &left_ms, change.expires_ns != 0);
    add("dir", &true, change.dir);
    add("recursive", &true, change.recursive);
    add("refresh", &true, change.refresh);
    text
}

fn complain(operation: &TreeOperation, number: usize, problem: &str) -> String {
    let request = text(&operation.request);
    let (at_ms, member) = (operation.call.at_ms, operation.member);
    format!("v2 operation {number} ({request}, called at {at_ms} ms on {member:x}) {problem}")
}
