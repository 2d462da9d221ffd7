//! The v2 store in a snapshot of etcd: JSON in an envelope with a checksum. It becomes rows of our
//! tree.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use keelson_core::tree::{Action, EVENTS_MAX, KEYS, TreeRows};
use keelson_proto::internal::{TreeEvent, TreeEventNode, TreeNode};
use prost::Message;
use serde::Deserialize;

use super::messages::{RaftSnapshot, SnapshotEnvelope};
use super::state::ImportError;
use crate::disk::{self, Disk, RealDisk};
use crate::go_time::time_ns;

/// A v2 store, and its place in the log.
#[derive(Default)]
pub(super) struct V2Store {
    pub(super) index: u64,
    pub(super) term: u64,
    /// Whether the cluster was of an etcd 2, which has no v3 keys.
    pub(super) is_of_etcd_2: bool,
    /// Keys and values of rows.
    pub(super) rows: Vec<(Bytes, Bytes)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredStore {
    root: StoredNode,
    current_index: u64,
    watcher_hub: Option<StoredHub>,
}

impl StoredStore {
    /// The cluster's version is a key of the part with the members; the first etcd 2 had none.
    fn is_of_etcd_2(&self) -> bool {
        let part = self.root.child("0");
        let version = part.and_then(|part| part.child("version"));
        version.is_none_or(|version| version.value.starts_with("2."))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredNode {
    created_index: u64,
    modified_index: u64,
    expire_time: String,
    value: String,
    children: Option<BTreeMap<String, StoredNode>>,
}

impl StoredNode {
    fn child(&self, name: &str) -> Option<&StoredNode> {
        self.children.as_ref()?.get(name)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredHub {
    event_history: StoredHistory,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredHistory {
    queue: StoredQueue,
    start_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredQueue {
    events: Vec<Option<StoredEvent>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredEvent {
    action: String,
    node: Option<StoredEventNode>,
    prev_node: Option<StoredEventNode>,
    #[serde(default)]
    refresh: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredEventNode {
    #[serde(default)]
    key: String,
    value: Option<String>,
    #[serde(default)]
    dir: bool,
    expiration: Option<String>,
    #[serde(default)]
    ttl: i64,
    #[serde(default)]
    modified_index: u64,
    #[serde(default)]
    created_index: u64,
}

/// The newest snapshot that is whole; an empty store if there is none.
///
/// # Errors
/// A directory that cannot be read.
pub(super) fn newest(dir: &Path) -> Result<V2Store, ImportError> {
    let names = match RealDisk.exists(dir) {
        Ok(true) => RealDisk
            .list(dir)
            .map_err(|error| ImportError::io(dir, error))?,
        _ => Vec::new(),
    };
    // The names are term and index in hexadecimal digits of one length.
    for name in names.iter().rev().filter(|name| name.ends_with(".snap")) {
        let path = dir.join(name);
        let bytes = disk::read_file(&RealDisk, &path);
        let bytes = bytes.map_err(|error| ImportError::io(&path, error))?;
        match read(&bytes.unwrap_or_default()) {
            Ok(store) => return Ok(store),
            Err(what) => tracing::warn!(path = %path.display(), what, "a snapshot is not used"),
        }
    }
    Ok(V2Store {
        rows: TreeRows::default().finish(0),
        ..V2Store::default()
    })
}

fn read(bytes: &[u8]) -> Result<V2Store, String> {
    let envelope = SnapshotEnvelope::decode(bytes).map_err(|error| error.to_string())?;
    if crc32c::crc32c(&envelope.data) != envelope.crc {
        return Err("a wrong checksum".to_owned());
    }
    let snapshot = RaftSnapshot::decode(envelope.data).map_err(|error| error.to_string())?;
    let metadata = snapshot.metadata.unwrap_or_default();
    let stored = serde_json::from_slice(&snapshot.data);
    let stored: StoredStore = stored.map_err(|error| error.to_string())?;
    Ok(V2Store {
        index: metadata.index,
        term: metadata.term,
        is_of_etcd_2: stored.is_of_etcd_2(),
        rows: rows(stored)?,
    })
}

/// The rows of the keys, of the index, and of the history. The part with etcd's members is left
/// out.
fn rows(mut stored: StoredStore) -> Result<Vec<(Bytes, Bytes)>, String> {
    let index = stored.current_index;
    let children = stored.root.children.as_mut();
    let keys = children.and_then(|children| children.remove("1"));
    let mut waiting = vec![(
        KEYS,
        keys.and_then(|keys| keys.children).unwrap_or_default(),
    )];
    let mut rows = TreeRows::default();
    while let Some((parent, children)) = waiting.pop() {
        for (name, node) in children {
            let expires_ns = time_ns(&node.expire_time).ok_or("a time that is none")?;
            let row = TreeNode {
                parent,
                name: name.into(),
                dir: node.children.is_some(),
                value: node.value.into(),
                created: node.created_index,
                modified: node.modified_index,
                expires_ns,
                ttl_set: if expires_ns == 0 {
                    0
                } else {
                    node.modified_index
                },
            };
            let number = rows.node(&row).ok_or("too many keys")?;
            if let Some(children) = node.children {
                waiting.push((number, children));
            }
        }
    }
    if let Some(hub) = stored.watcher_hub {
        let events = events(hub.event_history, index);
        events.iter().for_each(|event| rows.event(event));
    }
    Ok(rows.finish(index))
}

/// The events that our history reaches back to.
fn events(history: StoredHistory, index: u64) -> Vec<TreeEvent> {
    let oldest = history
        .start_index
        .max(index.saturating_add(1).saturating_sub(EVENTS_MAX as u64))
        .max(1);
    let events = history.queue.events.into_iter().flatten();
    let events = events.filter_map(|event| {
        let at = event.node.as_ref()?.modified_index;
        if at < oldest || index < at || event.refresh {
            return None;
        }
        Some(TreeEvent {
            action: Action::from_name(&event.action)? as u32,
            node: event.node.map(event_node),
            prev: event.prev_node.map(event_node),
            index: at,
            refresh: false,
            oldest,
        })
    });
    events.collect()
}

fn event_node(node: StoredEventNode) -> TreeEventNode {
    TreeEventNode {
        key: node.key.into(),
        value: node.value.map(Bytes::from),
        dir: node.dir,
        expires_ns: node
            .expiration
            .and_then(|time| time_ns(&time))
            .unwrap_or_default(),
        ttl: node.ttl,
        created: node.created_index,
        modified: node.modified_index,
    }
}
