//! The rows of the `Meta` table.

use bytes::Bytes;
use keelson_proto::internal::AppliedMark;
use prost::Message;

use super::error::StateError;
use crate::ClusterId;
use crate::engine::{Engine, Table};

/// The applied index, with term and membership. Without this row the engine holds no state.
pub(super) const APPLIED: &[u8] = b"applied";
/// The id of the cluster.
pub(super) const CLUSTER_ID: &[u8] = b"cluster_id";
/// The cluster version, in etcd's sense.
pub(super) const CLUSTER_VERSION: &[u8] = b"cluster_version";
/// The cluster version to which a downgrade is in progress; absent without one.
pub(super) const DOWNGRADE: &[u8] = b"downgrade";
/// Followed by a member's id: the newest kind of command that the member can apply.
pub(super) const COMMAND_VERSION_OF: &[u8] = b"command_version/";
/// The revision up to which the store is compacted.
pub(super) const COMPACTION_SCHEDULED: &[u8] = b"compaction_scheduled";
/// The revision up to which the rows of compacted versions are deleted.
pub(super) const COMPACTION_FINISHED: &[u8] = b"compaction_finished";
/// The layout of the tables, for later releases.
pub(super) const FORMAT: &[u8] = b"format";
/// The store's revision. It is not derived from the rows: the newest may be a tombstone that a
/// compaction has deleted (etcd#17780: the revision decreases after a crash in a compaction).
pub(super) const REVISION: &[u8] = b"revision";

/// There while the cluster is a standby of another one.
pub(super) const STANDBY: &[u8] = b"standby";

/// The layout of a store in which auth was never used: releases before auth read it as well.
const FORMAT_WITHOUT_AUTH: i64 = 1;
/// The layout with users, roles or a key for tokens. A release before auth would serve it without
/// checks, so it must refuse it.
const FORMAT_WITH_AUTH: i64 = 2;
/// The layout of a standby, which an earlier release would open for writes.
const FORMAT_OF_STANDBY: i64 = 3;

/// The values of the `Meta` rows that change with the state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Marks {
    pub(super) cluster: ClusterId,
    pub(super) applied: AppliedMark,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) swept: i64,
    /// Whether auth was ever used.
    pub(super) has_auth: bool,
    /// Whether the cluster is a standby.
    pub(super) is_standby: bool,
}

impl Marks {
    /// The rows with these values.
    pub(super) fn rows(&self) -> [(&'static [u8], Bytes); 6] {
        let word = |number: i64| Bytes::copy_from_slice(&number.to_be_bytes());
        let cluster = Bytes::copy_from_slice(&self.cluster.0.to_be_bytes());
        let format = match (self.is_standby, self.has_auth) {
            (true, _) => FORMAT_OF_STANDBY,
            (false, true) => FORMAT_WITH_AUTH,
            (false, false) => FORMAT_WITHOUT_AUTH,
        };
        [
            (APPLIED, Bytes::from(self.applied.encode_to_vec())),
            (CLUSTER_ID, cluster),
            (COMPACTION_FINISHED, word(self.swept)),
            (COMPACTION_SCHEDULED, word(self.compacted)),
            (FORMAT, word(format)),
            (REVISION, word(self.revision)),
        ]
    }

    /// Reads them from the engine; `None` if it holds no state.
    pub(super) fn load(engine: &dyn Engine) -> Result<Option<Marks>, StateError> {
        let Some(applied) = engine.get(Table::Meta, APPLIED)? else {
            return Ok(None);
        };
        let format = word(engine, FORMAT)?;
        check_format(format)?;
        let applied = AppliedMark::decode(applied)
            .map_err(|error| StateError::Damaged(format!("applied mark: {error}")))?;
        Ok(Some(Marks {
            cluster: ClusterId(word(engine, CLUSTER_ID)? as u64),
            applied,
            revision: word(engine, REVISION)?,
            compacted: word(engine, COMPACTION_SCHEDULED)?,
            swept: word(engine, COMPACTION_FINISHED)?,
            has_auth: FORMAT_WITH_AUTH <= format,
            is_standby: format == FORMAT_OF_STANDBY,
        }))
    }
}

/// Refuses a layout that this release does not read.
fn check_format(format: i64) -> Result<(), StateError> {
    match format {
        FORMAT_WITHOUT_AUTH..=FORMAT_OF_STANDBY => Ok(()),
        newer if FORMAT_OF_STANDBY < newer => Err(StateError::Newer {
            format: newer,
            known: FORMAT_OF_STANDBY,
        }),
        _ => Err(StateError::Damaged(format!("layout {format}"))),
    }
}

/// Checks the layout in a snapshot's rows.
pub(super) fn check_row(key: &[u8], row: &[u8]) -> Result<(), StateError> {
    if key != FORMAT {
        return Ok(());
    }
    let bytes = row.try_into();
    let bytes = bytes.map_err(|_| StateError::Damaged("no valid mark format".to_owned()))?;
    check_format(i64::from_be_bytes(bytes))
}

fn word(engine: &dyn Engine, key: &[u8]) -> Result<i64, StateError> {
    let row = engine.get(Table::Meta, key)?;
    let bytes = row.and_then(|row| row[..].try_into().ok());
    let name = String::from_utf8_lossy(key);
    let bytes = bytes.ok_or_else(|| StateError::Damaged(format!("no valid mark {name}")))?;
    Ok(i64::from_be_bytes(bytes))
}
