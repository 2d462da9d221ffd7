//! The JSON of nodes and events: without the prefix "/1" of the keys API's paths in the tree.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use keelson_core::tree::{Action, Event, NodeExtern};

use super::json;
use crate::large::{LARGE_BYTES, LargeAnswers};

/// The directory of the tree that `/v2/keys` serves.
pub(super) const SPACE: &[u8] = b"/1";

/// The approximate size of a node's fixed parts, in bytes.
const NODE_BYTES: usize = 160;

/// An event and its encoding. A large encoding keeps its event alive.
struct Encoded(Arc<Event>);

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        self.0.encoding.get().map_or(&[], |encoding| encoding)
    }
}

/// The JSON of an event, encoded once for all clients. The history shares an encoding only while it
/// is in use, so a large one stays until the last client has read it. Otherwise each of a thousand
/// clients would have a copy. `None` if there is no room for it.
pub(super) fn encoding(event: &Arc<Event>, room: &LargeAnswers) -> Option<Bytes> {
    let encoded = match event.encoding.get() {
        Some(encoded) => encoded,
        None if !room.has_room_for_all(value_bytes(event)) => return None,
        None => {
            let made = room.hold_for_all(encode(event))?;
            event.encoding.get_or_init(|| made)
        }
    };
    Some(match encoded.len() < LARGE_BYTES {
        true => encoded.clone(),
        false => Bytes::from_owner(Encoded(Arc::clone(event))),
    })
}

/// The size of an event's values before they are escaped, in bytes.
pub(super) fn value_bytes(event: &Event) -> usize {
    let value = |node: &NodeExtern| node.value.as_ref().map_or(0, Bytes::len);
    value(&event.node) + event.prev.as_ref().map_or(0, value)
}

fn encode(event: &Event) -> Bytes {
    let keys = 2 * event.node.key.len();
    let capacity = 2 * NODE_BYTES + keys + value_bytes(event);
    let mut out = BytesMut::with_capacity(capacity);
    begin(&mut out, event.action);
    node(&mut out, &event.node);
    if let Some(prev) = &event.prev {
        out.extend_from_slice(b",\"prevNode\":");
        node(&mut out, prev);
    }
    out.extend_from_slice(b"}\n");
    out.freeze()
}

/// The answer to a change with `noValueOnSuccess`.
pub(super) fn action_only(action: Action) -> Bytes {
    let mut out = BytesMut::with_capacity(40);
    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(action.as_str().as_bytes());
    out.extend_from_slice(b"\"}\n");
    out.freeze()
}

/// The answer to a read.
pub(super) fn read(found: &NodeExtern) -> Bytes {
    let value = found.value.as_ref().map_or(0, Bytes::len);
    let children = found.nodes.len() * (NODE_BYTES + found.key.len());
    let mut out = BytesMut::with_capacity(NODE_BYTES + found.key.len() + value + children);
    begin(&mut out, Action::Get);
    node(&mut out, found);
    out.extend_from_slice(b"}\n");
    out.freeze()
}

fn begin(out: &mut BytesMut, action: Action) {
    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(action.as_str().as_bytes());
    out.extend_from_slice(b"\",\"node\":");
}

/// Writes a node and its subtree without recursion: paths can have ten thousand segments.
fn node(out: &mut BytesMut, top: &NodeExtern) {
    begin_node(out, top);
    if top.nodes.is_empty() {
        return end_node(out, top);
    }
    let mut open = vec![(top, top.nodes.iter())];
    while let Some((parent, children)) = open.last_mut() {
        match children.next() {
            Some(child) => {
                if out.last() != Some(&b'[') {
                    out.put_u8(b',');
                }
                begin_node(out, child);
                open.push((child, child.nodes.iter()));
            }
            None => {
                end_node(out, parent);
                open.pop();
            }
        }
    }
}

/// Writes the fields before the children. Empty ones are omitted, as by Go's `omitempty`, except
/// for the value of a file.
fn begin_node(out: &mut BytesMut, node: &NodeExtern) {
    let key = node.key.strip_prefix(SPACE).unwrap_or(&node.key);
    out.put_u8(b'{');
    if !key.is_empty() {
        out.extend_from_slice(b"\"key\":");
        json::string(out, key);
        out.put_u8(b',');
    }
    if let Some(value) = &node.value {
        out.extend_from_slice(b"\"value\":");
        json::string(out, value);
        out.put_u8(b',');
    }
    if node.dir {
        out.extend_from_slice(b"\"dir\":true,");
    }
    if let Some(expires_ns) = node.expires_ns {
        out.extend_from_slice(b"\"expiration\":\"");
        json::time(out, expires_ns);
        out.extend_from_slice(b"\",");
    }
    if node.ttl != 0 {
        out.extend_from_slice(b"\"ttl\":");
        json::signed(out, node.ttl);
        out.put_u8(b',');
    }
    if !node.nodes.is_empty() {
        out.extend_from_slice(b"\"nodes\":[");
    }
}

fn end_node(out: &mut BytesMut, node: &NodeExtern) {
    if !node.nodes.is_empty() {
        out.extend_from_slice(b"],");
    }
    if node.modified != 0 {
        out.extend_from_slice(b"\"modifiedIndex\":");
        json::number(out, node.modified);
        out.put_u8(b',');
    }
    if node.created != 0 {
        out.extend_from_slice(b"\"createdIndex\":");
        json::number(out, node.created);
        out.put_u8(b',');
    }
    if out.last() == Some(&b',') {
        out.truncate(out.len() - 1);
    }
    out.put_u8(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use keelson_proto::internal::TreeRequest;

    use super::*;

    fn file(key: &'static str, value: &'static str) -> NodeExtern {
        NodeExtern {
            key: key.into(),
            value: Some(value.into()),
            modified: 4,
            created: 3,
            ..NodeExtern::default()
        }
    }

    fn dir(key: &'static str, nodes: Vec<NodeExtern>) -> NodeExtern {
        NodeExtern {
            key: key.into(),
            dir: true,
            nodes: nodes.into(),
            ..NodeExtern::default()
        }
    }

    #[test]
    fn reads_are_written_as_by_etcd() {
        let mut expiring = file("/1/a/b", "");
        expiring.expires_ns = Some(1_000_000_000);
        expiring.ttl = 20;
        let listed = dir("/1", vec![dir("/1/a", vec![expiring, file("/1/a/c", "<")])]);
        for (node, expected) in [
            (dir("/1", vec![]), r#"{"dir":true}"#),
            (
                file("/1/foo", "bar"),
                r#"{"key":"/foo","value":"bar","modifiedIndex":4,"createdIndex":3}"#,
            ),
            (
                listed,
                concat!(
                    r#"{"dir":true,"nodes":[{"key":"/a","dir":true,"nodes":["#,
                    r#"{"key":"/a/b","value":"","expiration":"1970-01-01T00:00:01Z","ttl":20,"#,
                    r#""modifiedIndex":4,"createdIndex":3},"#,
                    r#"{"key":"/a/c","value":"\u003c","modifiedIndex":4,"createdIndex":3}]}]}"#
                ),
            ),
        ] {
            let expected = format!("{{\"action\":\"get\",\"node\":{expected}}}\n");
            assert_eq!(read(&node), expected);
        }
    }

    #[test]
    fn events_are_written_once() {
        let event = Arc::new(Event {
            action: Action::CompareAndSwap,
            node: file("/1/c", "2"),
            prev: Some(file("/1/c", "1")),
            index: 4,
            refresh: false,
            removed: Vec::new(),
            encoding: OnceLock::new(),
        });
        let expected = concat!(
            r#"{"action":"compareAndSwap","node":{"key":"/c","value":"2","#,
            r#""modifiedIndex":4,"createdIndex":3},"prevNode":{"key":"/c","value":"1","#,
            r#""modifiedIndex":4,"createdIndex":3}}"#,
            "\n"
        );
        let encoding = || encoding(&event, &LargeAnswers::within(1 << 20)).expect("small");
        assert_eq!(encoding(), expected);
        assert_eq!(encoding().as_ptr(), encoding().as_ptr());
        let only = action_only(Action::CompareAndSwap);
        assert_eq!(only, "{\"action\":\"compareAndSwap\"}\n");
    }

    #[expect(
        clippy::disallowed_types,
        reason = "the test reads the history of a tree"
    )]
    #[test]
    fn a_large_encoding_is_shared_until_its_last_reader_is_done() {
        let mut tree = keelson_core::tree::Tree::new();
        let value = Bytes::from(vec![b'v'; LARGE_BYTES]);
        let set = TreeRequest {
            path: "/1/a".into(),
            value,
            ..TreeRequest::default()
        };
        drop(tree.apply(&set));
        let room = LargeAnswers::within(1 << 20);
        let scan = || tree.scan(b"/1/a", false, 1).ok().flatten().expect("there");
        let read = || encoding(&scan(), &room).expect("room");
        let (one, two) = (read(), read());
        assert_eq!(one.as_ptr(), two.as_ptr());
        drop(one);
        assert_eq!(two.as_ptr(), read().as_ptr());
        drop(two);
        assert_eq!(scan().encoding.get(), None, "the history keeps none");
    }

    #[test]
    fn a_deep_tree_needs_no_stack() {
        let mut node = file("/1/x", "");
        for _ in 0..200_000 {
            node = dir("/1/x", vec![node]);
        }
        assert!(read(&node).len() > 200_000);
    }
}
