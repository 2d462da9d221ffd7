//! The answers of etcd's v2 keys API, as far as discovery reads them.

use std::fmt;

use serde::Deserialize;

use crate::roster::Entry;

/// Length of the excerpt of an unexpected answer in a message.
const EXCERPT_MAX: usize = 120;

/// `errorCode` of a missing key.
pub(crate) const KEY_NOT_FOUND: i64 = 100;
/// `errorCode` of a key that `prevExist=false` found.
pub(crate) const NODE_EXISTS: i64 = 105;
/// `errorCode` of a watcher that a snapshot cleared.
pub(crate) const WATCHER_CLEARED: i64 = 400;
/// `errorCode` of a `waitIndex` that is older than the history.
pub(crate) const EVENT_INDEX_CLEARED: i64 = 401;

/// A key or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// The full path, with the prefix of the service's backend.
    pub key: String,
    /// A key's value.
    pub value: String,
    /// Whether this is a directory.
    pub dir: bool,
    /// A directory's children.
    pub nodes: Vec<Node>,
    /// The store's index at its creation.
    pub created_index: u64,
    /// The store's index at its last change.
    pub modified_index: u64,
}

impl Node {
    /// The last part of its key.
    pub fn name(&self) -> &str {
        let (_, name) = self.key.rsplit_once('/').unwrap_or(("", &self.key));
        name
    }
}

impl Node {
    /// The registration in this node, if it is one. `_config` is hidden, but early backends may
    /// list it.
    pub fn entry(&self) -> Option<Entry> {
        let id = self.name();
        (!self.dir && !id.is_empty() && !id.starts_with('_')).then(|| Entry {
            id: id.to_owned(),
            value: self.value.trim().to_owned(),
            created: self.created_index,
            modified: self.modified_index,
        })
    }
}

/// A success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Change {
    /// `get`, `create`, `delete`, `expire` ...
    pub action: String,
    /// The node that the action changed.
    pub node: Option<Node>,
}

/// The API's own error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub struct KeysError {
    /// The code: 100 and up.
    pub error_code: i64,
    /// The meaning of the code.
    #[serde(default)]
    pub message: String,
    /// The key or value that caused it.
    #[serde(default)]
    pub cause: String,
    /// The store's index.
    #[serde(default)]
    pub index: u64,
}

// The format of etcd's client/keys.go.
impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeysError {
            error_code,
            message,
            cause,
            index,
        } = self;
        write!(f, "{error_code}: {message} ({cause}) [{index}]")
    }
}

/// A parsed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 or 201.
    Done(Node, Change),
    /// An error of the API.
    Failed(KeysError),
    /// The service has a fault, or requests a later retry: 5xx, 408, 429.
    Later(String),
    /// 200 without a body: a watch that was cut off.
    Nothing,
}

/// An answer that is not of the v2 keys API, with its beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAnswer(pub String);

impl Answer {
    /// Parses an answer.
    pub fn parse(status: u16, body: &[u8]) -> Result<Answer, BadAnswer> {
        match status {
            200 | 201 if body.is_empty() => Ok(Answer::Nothing),
            200 | 201 => {
                let mut change: Change = json(status, body)?;
                let node = change.node.take();
                let node = node.ok_or_else(|| BadAnswer(excerpt(status, body)))?;
                Ok(Answer::Done(node, change))
            }
            408 | 429 | 500..=599 => Ok(Answer::Later(excerpt(status, body))),
            _ => json(status, body).map(Answer::Failed),
        }
    }
}

fn json<'a, T: Deserialize<'a>>(status: u16, body: &'a [u8]) -> Result<T, BadAnswer> {
    serde_json::from_slice(body).map_err(|_| BadAnswer(excerpt(status, body)))
}

/// The status and the beginning of the body, on one line.
fn excerpt(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_MAX)]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let start: String = words.chars().take(EXCERPT_MAX).collect();
    match start.is_empty() {
        true => format!("status {status}"),
        false => format!("status {status}, {start:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Bodies as etcd 3.4.23 sends them.
    #[test]
    fn a_node_an_error_and_what_is_neither() {
        let body = br#"{"action":"get","node":{"key":"/_etcd/registry/t/_config/size","value":"2",
            "modifiedIndex":10,"createdIndex":10}}"#;
        let Ok(Answer::Done(node, change)) = Answer::parse(200, body) else {
            panic!("not understood");
        };
        assert_eq!((node.name(), node.value.as_str()), ("size", "2"));
        assert_eq!(node.entry().map(|entry| entry.id), Some("size".to_owned()));
        let config = Node {
            key: "/_etcd/registry/t/_config".to_owned(),
            ..Node::default()
        };
        assert_eq!(config.entry(), None);
        assert_eq!((node.created_index, change.action.as_str()), (10, "get"));

        let body = br#"{"errorCode":100,"message":"Key not found","cause":"/t","index":12}"#;
        let Ok(Answer::Failed(error)) = Answer::parse(404, body) else {
            panic!("not understood");
        };
        assert_eq!(error.to_string(), "100: Key not found (/t) [12]");

        let strange = Answer::parse(404, b"404 page not found\n").expect_err("not JSON");
        assert_eq!(strange.to_string(), "status 404, \"404 page not found\"");
        assert!(Answer::parse(200, b"<html>").is_err());
        assert!(Answer::parse(200, b"{}").is_err());
        assert_eq!(Answer::parse(200, b""), Ok(Answer::Nothing));
        assert_eq!(
            Answer::parse(502, b""),
            Ok(Answer::Later("status 502".to_owned()))
        );
    }
}
