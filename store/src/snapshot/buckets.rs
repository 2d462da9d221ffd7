//! The buckets of an etcd, and the rows in them besides the keys.
//!
//! Keys keep their rows byte for byte. The v2 tree has a bucket of ours, which etcd skips: etcd's
//! snapshots have none.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use keelson_core::engine::Table;
use keelson_core::state::auth::AuthRow;
use keelson_core::state::{Capture, RowKey};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{AuthMeta, AuthUser, ConfState, LeaseRow};
use keelson_proto::peer::Row;
use prost::{DecodeError, Message};
use serde::{Deserialize, Serialize};

use super::file::FileError;

/// The bucket of the pairs.
pub(super) const KEY: &str = "key";
/// The bucket of the v2 tree. The key of a row there is its number, then its key in our table.
pub(super) const TREE: &str = "keelson_v2";
pub(super) const ALARM: &str = "alarm";
pub(super) const AUTH: &str = "auth";
pub(crate) const AUTH_USERS: &str = "authUsers";
pub(crate) const AUTH_ROLES: &str = "authRoles";
pub(super) const CLUSTER: &str = "cluster";
pub(crate) const LEASE: &str = "lease";
pub(super) const MEMBERS: &str = "members";
pub(super) const MEMBERS_REMOVED: &str = "members_removed";
pub(super) const META: &str = "meta";

pub(super) const AUTH_ENABLED: &[u8] = b"authEnabled";
pub(super) const AUTH_REVISION: &[u8] = b"authRevision";
pub(super) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub(crate) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(super) const CONF_STATE: &[u8] = b"confState";
pub(super) const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub(super) const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub(crate) const TERM: &[u8] = b"term";

/// What is done with each row: its key and its value.
pub(super) type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), FileError> + 'a;

/// The rows of a bucket, by key.
pub(super) type Bucket = BTreeMap<Bytes, Bytes>;

/// A member as etcd stores it.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredMember {
    pub(super) id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(
        rename = "isLearner",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// Raft's membership as etcd stores it.
#[derive(Serialize)]
struct StoredConfState<'a> {
    voters: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    learners: &'a [u64],
    auto_leave: bool,
}

/// The buckets of etcd in the order of their names. They are there even without rows.
pub(super) const NAMES: [&str; 10] = [
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    KEY,
    LEASE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
];

/// Calls `visit` for each row of a bucket but that of the pairs, in the order of the keys. There
/// may be 100,000 leases or users: their rows are made one by one.
///
/// # Errors
/// Those of `visit`; a row of the state that cannot be read.
pub(super) fn visit(
    capture: &Capture,
    name: &str,
    visit: &mut VisitRow<'_>,
) -> Result<(), FileError> {
    match name {
        LEASE => {
            for Row { key, value } in capture.rows_of(Table::Leases) {
                // Without our field of it.
                let lease = LeaseRow {
                    granted: 0,
                    ..LeaseRow::decode(value)?
                };
                visit(&key, &lease.encode_to_vec())?;
            }
        }
        AUTH | AUTH_ROLES | AUTH_USERS => visit_auth(capture, name, visit)?,
        _ => {
            for (key, row) in few(capture, name)? {
                visit(&key, &row)?;
            }
        }
    }
    Ok(())
}

/// The rows of a bucket that has few, and whose order is not that of our table.
fn few(capture: &Capture, name: &str) -> Result<Bucket, DecodeError> {
    let mut bucket = Bucket::new();
    match name {
        ALARM => {
            let alarms = capture.rows_of(Table::Alarms).map(|row| row.value);
            // Without an alarm of no kind and no member, which a file cannot have.
            let alarms = alarms.filter(|alarm| !alarm.is_empty());
            bucket.extend(alarms.map(|alarm| (alarm, Bytes::new())));
        }
        CLUSTER => bucket = cluster(capture),
        META => bucket = meta(capture),
        MEMBERS => {
            for Row { value, .. } in capture.rows_of(Table::Members) {
                let member = Member::decode(value)?;
                bucket.insert(format!("{:x}", member.id).into(), stored(member));
            }
        }
        MEMBERS_REMOVED => {
            for Row { key, .. } in capture.rows_of(Table::Removed) {
                let id = key
                    .iter()
                    .fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
                bucket.insert(format!("{id:x}").into(), Bytes::from_static(b"removed"));
            }
        }
        _ => {}
    }
    Ok(bucket)
}

fn cluster(capture: &Capture) -> Bucket {
    let downgrade = br#"{"target-version":"","enabled":false}"#;
    let mut bucket = Bucket::from([(
        Bytes::from_static(b"downgrade"),
        Bytes::from_static(downgrade),
    )]);
    if let Some(version) = capture.cluster_version() {
        let version = Bytes::copy_from_slice(version.as_bytes());
        bucket.insert(Bytes::from_static(CLUSTER_VERSION), version);
    }
    bucket
}

/// The rows of users, and those of roles, are in the order of their names.
fn visit_auth(capture: &Capture, name: &str, visit: &mut VisitRow<'_>) -> Result<(), FileError> {
    for Row { key, value } in capture.rows_of(Table::Auth) {
        match (name, AuthRow::of(&key)) {
            (AUTH, Some(AuthRow::Meta)) => {
                let meta = AuthMeta::decode(value)?;
                visit(AUTH_ENABLED, &[u8::from(meta.enabled)])?;
                visit(AUTH_REVISION, &meta.revision.to_be_bytes())?;
            }
            (AUTH_USERS, Some(AuthRow::User(name))) => {
                let user = AuthUser::decode(value)?.user.unwrap_or_default();
                visit(name, &user.encode_to_vec())?;
            }
            (AUTH_ROLES, Some(AuthRow::Role(name))) => visit(name, &value)?,
            _ => {}
        }
    }
    Ok(())
}

/// A storage version is left out: an etcd refuses one above its own, and takes none for 3.5.
fn meta(capture: &Capture) -> Bucket {
    let mark = capture.mark();
    let word = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let conf_state = mark.conf_state.clone().unwrap_or_default();
    let mut meta = Bucket::from([
        (Bytes::from_static(CONSISTENT_INDEX), word(mark.index)),
        (Bytes::from_static(TERM), word(mark.term)),
        (Bytes::from_static(CONF_STATE), conf_state_row(&conf_state)),
    ]);
    if 0 < capture.compacted() {
        let (key, len) = RowKey::first_of(capture.compacted()).encode();
        let row = Bytes::copy_from_slice(&key[..len]);
        meta.insert(Bytes::from_static(FINISHED_COMPACT), row.clone());
        meta.insert(Bytes::from_static(SCHEDULED_COMPACT), row);
    }
    meta
}

/// The row of Raft's membership that consists of these voters.
pub(super) fn voters_row(voters: &[u64]) -> Bytes {
    conf_state_row(&ConfState {
        voters: voters.to_vec(),
        ..ConfState::default()
    })
}

fn conf_state_row(conf_state: &ConfState) -> Bytes {
    let stored = StoredConfState {
        voters: &conf_state.voters,
        learners: &conf_state.learners,
        auto_leave: conf_state.auto_leave,
    };
    serde_json::to_vec(&stored).unwrap_or_default().into()
}

/// A member as a row.
pub(super) fn stored(member: Member) -> Bytes {
    let stored = StoredMember {
        id: member.id,
        peer_urls: member.peer_ur_ls,
        is_learner: member.is_learner,
        name: member.name,
        client_urls: member.client_ur_ls,
    };
    serde_json::to_vec(&stored).unwrap_or_default().into()
}

/// The key of a row of the v2 tree: its number keeps the rows in the order of the capture.
pub(super) fn tree_key(number: u64, key: &[u8]) -> Bytes {
    let mut numbered = BytesMut::with_capacity(8 + key.len());
    numbered.put_u64(number);
    numbered.put_slice(key);
    numbered.freeze()
}
