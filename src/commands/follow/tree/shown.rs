//! What the v2 API shows: nodes and events as JSON, and what they become in commands.

use bytes::Bytes;
use keelson_proto::internal::{TreeEvent, TreeEventNode};
use keelson_store::internals::{Action, time_ns};
use serde::Deserialize;

/// The path of the keys API's root in the tree.
const KEYS: &str = "/1";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShownEvent {
    action: String,
    node: ShownNode,
    prev_node: Option<ShownNode>,
}

#[derive(Debug, Deserialize)]
struct ShownListing {
    node: ShownNode,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ShownNode {
    key: String,
    value: Option<String>,
    dir: bool,
    expiration: Option<String>,
    ttl: i64,
    nodes: Vec<ShownNode>,
    modified_index: u64,
    created_index: u64,
}

/// An error of the v2 API.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ShownError {
    pub(super) error_code: u32,
    pub(super) message: String,
    pub(super) cause: String,
}

impl ShownError {
    /// Of an answer; without a code if it is no error of this API.
    pub(super) fn of(body: &[u8]) -> ShownError {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// The oldest index of the history, if it does not reach back far enough. etcd's cause ends
    /// with it and the requested one: `[1007/8]`.
    pub(super) fn oldest(&self) -> Option<u64> {
        let (_, range) = self.cause.rsplit_once('[')?;
        range.split_once('/')?.0.parse().ok()
    }
}

/// The event of a wait. Values that are not UTF-8 are not in JSON as they are.
///
/// # Errors
/// It is no event.
pub(super) fn event(body: &[u8]) -> Result<TreeEvent, String> {
    let text = String::from_utf8_lossy(body);
    let shown: ShownEvent = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let action = Action::from_name(&shown.action);
    let action = action.ok_or_else(|| format!("an unknown action {:?}", shown.action))?;
    Ok(TreeEvent {
        action: action as u32,
        index: shown.node.modified_index,
        node: Some(node(shown.node)?.0),
        prev: shown.prev_node.map(node).transpose()?.map(|prev| prev.0),
        ..TreeEvent::default()
    })
}

/// The nodes of a listing, parents first; the first is the directory itself.
///
/// # Errors
/// It is no listing, or is nested too deep.
pub(super) fn listing(body: &[u8]) -> Result<Vec<TreeEventNode>, String> {
    let text = String::from_utf8_lossy(body);
    let shown: ShownListing = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut nodes = Vec::new();
    let mut waiting = vec![shown.node];
    while let Some(shown) = waiting.pop() {
        let (node, children) = node(shown)?;
        nodes.push(node);
        waiting.extend(children);
    }
    Ok(nodes)
}

fn node(shown: ShownNode) -> Result<(TreeEventNode, Vec<ShownNode>), String> {
    let expires_ns = match &shown.expiration {
        None => 0,
        Some(time) => time_ns(time).ok_or_else(|| format!("no time: {time:?}"))?,
    };
    let node = TreeEventNode {
        key: format!("{KEYS}{}", shown.key).into(),
        value: shown.value.map(Bytes::from),
        dir: shown.dir,
        expires_ns,
        ttl: shown.ttl,
        created: shown.created_index,
        modified: shown.modified_index,
    };
    Ok((node, shown.nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As etcd 3.4.23 shows them.
    #[test]
    fn what_etcd_shows_is_read() {
        let update = event(
            br#"{"action":"update","node":{"key":"/_h/t","value":"","expiration":
            "2026-11-30T15:10:52.5Z","ttl":100,"modifiedIndex":7,"createdIndex":6},
            "prevNode":{"key":"/_h/t","value":"2","modifiedIndex":6,"createdIndex":6}}"#,
        );
        let update = update.unwrap();
        assert_eq!((update.index, update.action), (7, Action::Update as u32));
        let node = update.node.unwrap();
        assert_eq!(
            (&node.key[..], node.value),
            (&b"/1/_h/t"[..], Some("".into()))
        );
        assert_eq!(node.expires_ns % 1_000_000_000, 500_000_000);
        let nodes = listing(
            br#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/a","dir":true,"nodes":
            [{"key":"/a/b","value":"1","modifiedIndex":4,"createdIndex":4}],"modifiedIndex":4,
            "createdIndex":4},{"key":"/d","dir":true,"modifiedIndex":8,"createdIndex":8}]}}"#,
        );
        let keys = nodes.unwrap().into_iter().map(|node| node.key);
        assert_eq!(keys.collect::<Vec<_>>(), ["/1", "/1/d", "/1/a", "/1/a/b"]);
        let cleared = ShownError::of(
            br#"{"errorCode":401,"message":"The event in requested index is outdated and cleared",
            "cause":"the requested history has been cleared [1004/5]","index":2003}"#,
        );
        assert_eq!((cleared.error_code, cleared.oldest()), (401, Some(1004)));
        assert_eq!(ShownError::of(b"404 page not found").error_code, 0);
    }
}
