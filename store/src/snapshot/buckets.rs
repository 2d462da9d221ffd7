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
use keelson_proto::peer::{Row, Rows};
use prost::{DecodeError, Message};
use serde::{Deserialize, Serialize};

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

/// Every bucket but those of the pairs and of the v2 tree, by name. etcd's are there even without
/// rows.
///
/// # Errors
/// A row of the state that cannot be read.
pub(super) fn small(capture: &Capture) -> Result<BTreeMap<&'static str, Bucket>, DecodeError> {
    let names = [
        ALARM,
        AUTH,
        AUTH_ROLES,
        AUTH_USERS,
        CLUSTER,
        LEASE,
        MEMBERS,
        MEMBERS_REMOVED,
    ];
    let mut buckets: BTreeMap<_, _> = names.map(|name| (name, Bucket::new())).into();
    buckets.insert(META, meta(capture));
    if let Some(version) = capture.cluster_version() {
        let version = Bytes::copy_from_slice(version.as_bytes());
        put(
            &mut buckets,
            CLUSTER,
            Bytes::from_static(CLUSTER_VERSION),
            version,
        );
    }
    let downgrade = Bytes::from_static(br#"{"target-version":"","enabled":false}"#);
    put(
        &mut buckets,
        CLUSTER,
        Bytes::from_static(b"downgrade"),
        downgrade,
    );
    let mut rest = capture.clone().without_pairs_and_tree();
    while let Some(Rows { table, rows }) = rest.next_small(usize::MAX) {
        for row in rows {
            convert(&mut buckets, table, row)?;
        }
    }
    Ok(buckets)
}

fn put(buckets: &mut BTreeMap<&'static str, Bucket>, name: &'static str, key: Bytes, row: Bytes) {
    buckets.entry(name).or_default().insert(key, row);
}

fn convert(
    buckets: &mut BTreeMap<&'static str, Bucket>,
    table: u32,
    Row { key, value }: Row,
) -> Result<(), DecodeError> {
    match u8::try_from(table).ok().and_then(Table::from_number) {
        Some(Table::Members) => {
            let member = Member::decode(value)?;
            let key = Bytes::from(format!("{:x}", member.id));
            put(buckets, MEMBERS, key, stored(member));
        }
        Some(Table::Removed) => {
            let id = key
                .iter()
                .fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
            let (key, row) = (
                Bytes::from(format!("{id:x}")),
                Bytes::from_static(b"removed"),
            );
            put(buckets, MEMBERS_REMOVED, key, row);
        }
        // An alarm of no kind and no member, which a file cannot have.
        Some(Table::Alarms) if value.is_empty() => {}
        Some(Table::Alarms) => put(buckets, ALARM, value, Bytes::new()),
        Some(Table::Leases) => {
            let lease = LeaseRow::decode(value)?;
            // Without our field of it.
            let lease = LeaseRow {
                granted: 0,
                ..lease
            };
            put(buckets, LEASE, key, lease.encode_to_vec().into());
        }
        Some(Table::Auth) => convert_auth(buckets, &key, value)?,
        Some(Table::Key | Table::Meta | Table::Tree) | None => {}
    }
    Ok(())
}

fn convert_auth(
    buckets: &mut BTreeMap<&'static str, Bucket>,
    key: &Bytes,
    value: Bytes,
) -> Result<(), DecodeError> {
    match AuthRow::of(key) {
        Some(AuthRow::Meta) => {
            let meta = AuthMeta::decode(value)?;
            let enabled = Bytes::from(vec![u8::from(meta.enabled)]);
            let revision = Bytes::copy_from_slice(&meta.revision.to_be_bytes());
            put(buckets, AUTH, Bytes::from_static(AUTH_ENABLED), enabled);
            put(buckets, AUTH, Bytes::from_static(AUTH_REVISION), revision);
        }
        Some(AuthRow::User(name)) => {
            let user = AuthUser::decode(value)?.user.unwrap_or_default();
            put(
                buckets,
                AUTH_USERS,
                key.slice_ref(name),
                user.encode_to_vec().into(),
            );
        }
        Some(AuthRow::Role(name)) => put(buckets, AUTH_ROLES, key.slice_ref(name), value),
        None => {}
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
