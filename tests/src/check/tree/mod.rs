//! The v2 API's histories: what clients asked of the tree, what they were told, and whether that can
//! be.
//!
//! `replay` is the first opinion: every answer names the tree's index, so the order is known.
//! `register` is the second: it looks at the values of one key at a time, and searches.

pub mod register;
pub mod replay;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::tree::{Event, NodeExtern, TreeError};
use keelson_proto::internal::TreeRequest;

use crate::history::{History, Operation};

/// What a client asks of the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// To change it.
    Change(TreeRequest),
    /// To read from it.
    Get {
        /// What.
        path: Bytes,
        /// All below it too.
        recursive: bool,
        /// What is committed now, not only what the member knows.
        quorum: bool,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// What was changed, or why not.
    Changed(Result<Arc<Event>, TreeError>),
    /// What is there and the tree's index, or why nothing.
    Got(Result<(NodeExtern, u64), TreeError>),
}

impl Answer {
    /// X-Etcd-Index.
    pub fn index(&self) -> u64 {
        match self {
            Answer::Changed(Ok(event)) => event.index,
            Answer::Got(Ok((_, index))) => *index,
            Answer::Changed(Err(error)) | Answer::Got(Err(error)) => error.index,
        }
    }
}

/// What happened to the tree, as its clients know it.
pub type TreeHistory = History<Request, Answer>;

/// One of its operations.
pub type TreeOperation = Operation<Request, Answer>;

impl TreeHistory {
    /// Writes one JSON object a line.
    pub fn write_json(&self, to: &mut dyn Write) -> io::Result<()> {
        self.write_lines(to, text, |answer| format!("{answer:?}"))
    }
}

/// A request as a person would write it.
pub fn text(request: &Request) -> String {
    match request {
        Request::Change(change) => change_text(change),
        Request::Get {
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
