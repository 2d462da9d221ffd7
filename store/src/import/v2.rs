//! The v2 store in a snapshot of etcd: JSON in an envelope with a checksum. It becomes rows of our
//! tree, whose layout is in the core's `tree/rows.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use keelson_core::tree::Action;
use keelson_proto::internal::{TreeEvent, TreeEventNode, TreeNode};
use prost::Message;
use serde::Deserialize;

use super::messages::{RaftSnapshot, SnapshotEnvelope};
use super::state::ImportError;
use crate::disk::{self, Disk, RealDisk};

/// The number of the node of the keys API; the nodes below have numbers from `FIRST` on.
const KEYS: u32 = 2;
const FIRST: u32 = 3;
/// The events of etcd's history, and of ours.
const EVENTS_MAX: u64 = 1000;

/// A v2 store, and its place in the log.
#[derive(Default)]
pub(super) struct V2Store {
    pub(super) index: u64,
    pub(super) term: u64,
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredNode {
    created_index: u64,
    modified_index: u64,
    expire_time: String,
    value: String,
    children: Option<BTreeMap<String, StoredNode>>,
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
        rows: vec![head(0, FIRST)],
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
    let mut rows = Vec::new();
    let mut next = FIRST;
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
            let key = [&b"n"[..], &next.to_be_bytes()].concat();
            rows.push((Bytes::from(key), row.encode_to_vec().into()));
            if let Some(children) = node.children {
                waiting.push((next, children));
            }
            next = next.checked_add(1).ok_or("too many keys")?;
        }
    }
    rows.push(head(index, next));
    if let Some(hub) = stored.watcher_hub {
        rows.extend(events(hub.event_history, index));
    }
    Ok(rows)
}

/// The row with the tree's index, and how many numbers nodes have.
fn head(index: u64, numbers: u32) -> (Bytes, Bytes) {
    let row = [&index.to_be_bytes()[..], &numbers.to_be_bytes()].concat();
    (Bytes::from_static(b"h"), row.into())
}

/// The rows of the history that our history reaches back to.
fn events(history: StoredHistory, index: u64) -> Vec<(Bytes, Bytes)> {
    let oldest = history
        .start_index
        .max(index.saturating_add(1).saturating_sub(EVENTS_MAX))
        .max(1);
    let events = history.queue.events.into_iter().flatten();
    let rows = events.filter_map(|event| {
        let at = event.node.as_ref()?.modified_index;
        if at < oldest || index < at || event.refresh {
            return None;
        }
        let row = TreeEvent {
            action: action(&event.action)? as u32,
            node: event.node.map(event_node),
            prev: event.prev_node.map(event_node),
            index: at,
            refresh: false,
            oldest,
        };
        let slot = (at % EVENTS_MAX) as u16;
        let key = [&b"e"[..], &slot.to_be_bytes()].concat();
        Some((Bytes::from(key), Bytes::from(row.encode_to_vec())))
    });
    rows.collect()
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

fn action(name: &str) -> Option<Action> {
    let all = [
        Action::Set,
        Action::Create,
        Action::Update,
        Action::CompareAndSwap,
        Action::Delete,
        Action::CompareAndDelete,
        Action::Expire,
    ];
    all.into_iter().find(|action| action.as_str() == name)
}

/// Go's form of a time (RFC 3339) in ns since 1970; 0 for Go's time without a value.
fn time_ns(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    if year <= 1 {
        return Some(0);
    }
    let zone = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let mut parts = clock.splitn(3, ':');
    let hour: i64 = parts.next()?.parse().ok()?;
    let minute: i64 = parts.next()?.parse().ok()?;
    let (second, fraction) = parts.next().map(|s| s.split_once('.').unwrap_or((s, "")))?;
    let second: i64 = second.parse().ok()?;
    let in_range = (2..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let offset = match zone.split_at(1) {
        ("Z", _) => 0,
        (sign, by) => {
            let (hours, minutes) = by.split_once(':')?;
            let minutes = hours.parse::<u8>().ok().map(i64::from)? * 60
                + minutes.parse::<u8>().ok().map(i64::from)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let days = keelson_port::civil_days(year, month, day);
    let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_times_are_read() {
        let cases = [
            ("0001-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("2026-11-29T22:37:44.5Z", Some(1_795_991_864_500_000_000)),
            (
                "2026-11-30T00:37:44.5+02:00",
                Some(1_795_991_864_500_000_000),
            ),
            ("2024-02-29T12:00:00-01:00", Some(1_709_211_600_000_000_000)),
            ("yesterday", None),
            ("2024-02-29T12", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time_ns(text), expected, "{text}");
        }
    }
}
