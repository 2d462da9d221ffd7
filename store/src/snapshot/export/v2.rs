//! The v2 tree as the v2 store of an etcd, which is JSON.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_core::tree::{Action, EVENTS_MAX, KEYS, StoredRow};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{TreeEvent, TreeEventNode, TreeNode};
use serde_json::{Map, Value, json};

use super::database::tree_row;
use crate::edge::v2::time_text;
use crate::snapshot::buckets;
use crate::snapshot::input::{InputError, SnapshotFile};

/// Go reads 10,000 levels of JSON, of which a directory takes two.
const DEPTH_MAX: usize = 2000;
/// Go's time without a value.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// A key of no client, for indexes without an event: etcd's history has no gaps.
const OF_NO_CLIENT: &str = "/0/members";

/// The v2 tree of a snapshot.
#[derive(Default)]
pub(super) struct ExportedTree {
    pub(super) index: u64,
    /// Nodes by their parents.
    children: BTreeMap<u32, Vec<(u32, TreeNode)>>,
    events: BTreeMap<u64, TreeEvent>,
}

impl ExportedTree {
    /// Reads the bucket of the tree; a snapshot of an etcd has none.
    pub(super) fn read(file: &SnapshotFile) -> Result<ExportedTree, InputError> {
        let mut store = ExportedTree::default();
        file.rows(buckets::TREE, |row| {
            let (key, row) = tree_row(row).unwrap_or_default();
            let taken = store.take(&key, row);
            taken.ok_or_else(|| file.wrong(buckets::TREE, "a row that cannot be read"))
        })?;
        match store.walk().1 <= DEPTH_MAX {
            true => Ok(store),
            false => Err(file.wrong(buckets::TREE, "a directory deeper than etcd reads")),
        }
    }

    fn take(&mut self, key: &Bytes, row: Bytes) -> Option<()> {
        match StoredRow::read(key, row)? {
            StoredRow::Head(index) => self.index = index,
            StoredRow::Node(id, node) => {
                let siblings = self.children.entry(node.parent).or_default();
                siblings.push((id, node));
            }
            StoredRow::Event(event) => {
                self.events.insert(event.index, event);
            }
        }
        Some(())
    }

    /// The number of keys and directories.
    pub(super) fn len(&self) -> usize {
        self.walk().0
    }

    /// The number of keys and directories, and the depth of the deepest.
    fn walk(&self) -> (usize, usize) {
        let mut waiting = vec![(KEYS, 0)];
        let (mut count, mut deepest) = (0, 0);
        while let Some((parent, depth)) = waiting.pop() {
            let children = self.children.get(&parent).map_or(&[][..], Vec::as_slice);
            count += children.len();
            deepest = depth.max(deepest);
            // A damaged snapshot may have a ring, which ends here.
            if depth <= DEPTH_MAX {
                waiting.extend(children.iter().map(|(id, _)| (*id, depth + 1)));
            }
        }
        (count, deepest)
    }

    /// The store with the members of the new cluster.
    pub(super) fn json(&self, members: &[Member]) -> Vec<u8> {
        let listed = members.iter().map(|member| {
            let path = format!("/0/members/{:x}", member.id);
            let attributes = json!({"name": member.name});
            let raft = json!({"peerURLs": member.peer_ur_ls});
            let files = Map::from_iter([
                file(&path, "attributes", &attributes.to_string()),
                file(&path, "raftAttributes", &raft.to_string()),
            ]);
            (format!("{:x}", member.id), dir(&path, files))
        });
        let of_members = dir(OF_NO_CLIENT, listed.collect());
        let cluster = dir("/0", Map::from_iter([("members".to_owned(), of_members)]));
        let keys = dir("/1", self.nodes(KEYS, "/1"));
        let root = Map::from_iter([("0".to_owned(), cluster), ("1".to_owned(), keys)]);
        let (start, events) = self.history();
        let (size, back) = (events.len(), events.len() % EVENTS_MAX);
        let mut events = events;
        events.resize(EVENTS_MAX, Value::Null);
        let store = json!({
            "Root": dir("/", root),
            "WatcherHub": {"EventHistory": {
                "Queue": {
                    "Events": events, "Size": size, "Front": 0, "Back": back,
                    "Capacity": EVENTS_MAX,
                },
                "StartIndex": start,
                "LastIndex": self.index,
            }},
            "CurrentIndex": self.index,
            "Stats": {},
            "CurrentVersion": 2,
        });
        store.to_string().into_bytes()
    }

    /// The nodes below one. The depth is bounded (`walk`).
    fn nodes(&self, parent: u32, path: &str) -> Map<String, Value> {
        let children = self.children.get(&parent).map_or(&[][..], Vec::as_slice);
        let nodes = children.iter().map(|(id, node)| {
            let name = String::from_utf8_lossy(&node.name).into_owned();
            let path = format!("{path}/{name}");
            let children = node.dir.then(|| Value::Object(self.nodes(*id, &path)));
            let expires = match node.expires_ns {
                0 => NEVER.to_owned(),
                at => time_text(at),
            };
            let stored = json!({
                "Path": path,
                "CreatedIndex": node.created,
                "ModifiedIndex": node.modified,
                "ExpireTime": expires,
                "Value": String::from_utf8_lossy(&node.value),
                "Children": children,
            });
            (name, stored)
        });
        nodes.collect()
    }

    /// The first index of the history, and its events. etcd finds an event by its distance from the
    /// first, so indexes without one get an event that no client receives.
    fn history(&self) -> (u64, Vec<Value>) {
        let oldest = self.events.values().map(|event| event.oldest.max(1));
        let oldest = oldest.max().unwrap_or(self.index + 1);
        let reach = self.index.saturating_sub(EVENTS_MAX as u64 - 1).max(1);
        let start = oldest.max(reach);
        let events = (start..=self.index).map(|index| {
            let event = self.events.get(&index).and_then(event);
            event.unwrap_or_else(|| {
                let node = json!({
                    "key": OF_NO_CLIENT, "dir": true, "modifiedIndex": index, "createdIndex": index,
                });
                json!({"action": "set", "node": node})
            })
        });
        (start, events.collect())
    }
}

fn dir(path: &str, children: Map<String, Value>) -> Value {
    json!({
        "Path": path, "CreatedIndex": 0, "ModifiedIndex": 0, "ExpireTime": NEVER, "Value": "",
        "Children": children,
    })
}

fn file(dir: &str, name: &str, value: &str) -> (String, Value) {
    let node = json!({
        "Path": format!("{dir}/{name}"), "CreatedIndex": 0, "ModifiedIndex": 0,
        "ExpireTime": NEVER, "Value": value, "Children": null,
    });
    (name.to_owned(), node)
}

fn event(event: &TreeEvent) -> Option<Value> {
    let action = Action::from_number(event.action)?;
    let mut stored = json!({
        "action": action.as_str(),
        "node": event_node(event.node.as_ref()?),
    });
    if let Some(previous) = &event.prev {
        stored["prevNode"] = event_node(previous);
    }
    Some(stored)
}

fn event_node(node: &TreeEventNode) -> Value {
    let mut stored = json!({
        "key": String::from_utf8_lossy(&node.key),
        "modifiedIndex": node.modified,
        "createdIndex": node.created,
    });
    if let Some(value) = &node.value {
        stored["value"] = String::from_utf8_lossy(value).into();
    }
    if node.dir {
        stored["dir"] = true.into();
    }
    if node.expires_ns != 0 {
        stored["expiration"] = time_text(node.expires_ns).into();
        stored["ttl"] = node.ttl.into();
    }
    stored
}
