//! Short forms of requests and answers.

use bytes::Bytes;
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use crate::tree::{Event, NodeExtern, Tree, TreeError};

/// 2026-01-01.
pub(crate) const NOW: i64 = 1_767_225_600_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) fn request(op: Op, path: &str) -> TreeRequest {
    TreeRequest {
        op: op.into(),
        path: Bytes::copy_from_slice(path.as_bytes()),
        time_ns: NOW,
        ..TreeRequest::default()
    }
}

pub(crate) fn set(path: &str, value: &str) -> TreeRequest {
    with_value(Op::Set, path, value)
}

pub(crate) fn with_value(op: Op, path: &str, value: &str) -> TreeRequest {
    TreeRequest {
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..request(op, path)
    }
}

pub(crate) fn dir(op: Op, path: &str) -> TreeRequest {
    TreeRequest {
        dir: true,
        ..request(op, path)
    }
}

/// The same, with a time to live in seconds.
pub(crate) fn ttl(request: TreeRequest, seconds: i64) -> TreeRequest {
    TreeRequest {
        expires_ns: request.time_ns + seconds * SECOND,
        ..request
    }
}

pub(crate) fn refresh(request: TreeRequest) -> TreeRequest {
    TreeRequest {
        refresh: true,
        ..request
    }
}

pub(crate) fn compare(op: Op, path: &str, value: &str, index: u64) -> TreeRequest {
    TreeRequest {
        prev_value: Bytes::copy_from_slice(value.as_bytes()),
        prev_index: index,
        ..with_value(op, path, "swapped")
    }
}

pub(crate) fn recursive(path: &str) -> TreeRequest {
    TreeRequest {
        recursive: true,
        ..request(Op::Delete, path)
    }
}

/// An event as text, for assertions.
pub(crate) fn event(event: &Event) -> String {
    let refresh = if event.refresh { " (refresh)" } else { "" };
    let prev = event.prev.as_ref();
    let prev = prev.map_or(String::new(), |prev| format!(" was {}", node(prev)));
    format!(
        "{} {}{prev}{refresh}",
        event.action.as_str(),
        node(&event.node)
    )
}

/// A node as text: `/1/a=x @modified/created +ttl [children]`.
pub(crate) fn node(node: &NodeExtern) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut shown = text(&node.key);
    if node.dir {
        shown += "/";
    }
    if let Some(value) = &node.value {
        shown += &format!("={}", text(value));
    }
    shown += &format!(" @{}/{}", node.modified, node.created);
    if node.expires_ns.is_some() {
        shown += &format!(" +{}", node.ttl);
    }
    if !node.nodes.is_empty() {
        let nodes: Vec<String> = node.nodes.iter().map(self::node).collect();
        shown += &format!(" [{}]", nodes.join(", "));
    }
    shown
}

/// An error as text: `code cause @index`.
pub(crate) fn error(error: &TreeError) -> String {
    let cause = String::from_utf8_lossy(&error.cause);
    format!("{} {cause} @{}", error.code as u16, error.index)
}

/// The outcome of a request as text. The index advances only with an event, and by one.
pub(crate) fn apply(tree: &mut Tree, request: &TreeRequest) -> String {
    let before = tree.index();
    match tree.apply(request) {
        Ok(done) => {
            assert_eq!(done.index, before + 1);
            assert_eq!(done.index, done.node.modified);
            assert_eq!(tree.index(), done.index);
            event(&done)
        }
        Err(refusal) => {
            assert_eq!(tree.index(), before);
            assert_eq!(refusal.index, before);
            error(&refusal)
        }
    }
}

pub(crate) fn get(tree: &Tree, path: &str, recursive: bool) -> String {
    match tree.get(path.as_bytes(), recursive, NOW) {
        Ok(found) => node(&found),
        Err(refusal) => error(&refusal),
    }
}

pub(crate) fn scan(tree: &Tree, path: &str, recursive: bool, since: u64) -> String {
    match tree.scan(path.as_bytes(), recursive, since) {
        Ok(Some(found)) => event(&found),
        Ok(None) => "nothing yet".to_owned(),
        Err(refusal) => error(&refusal),
    }
}

/// Applies requests in order, and compares each outcome.
pub(crate) fn check(tree: &mut Tree, steps: &[(TreeRequest, &str)]) {
    for (number, (request, expected)) in steps.iter().enumerate() {
        let done = apply(tree, request);
        assert_eq!(done, *expected, "step {number}: {request:?}");
    }
}
