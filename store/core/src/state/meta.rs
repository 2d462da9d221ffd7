//! The rows of the `Meta` table.

use bytes::Bytes;
use keelson_proto::internal::AppliedMark;
use prost::Message;

use super::error::StateError;
use crate::ClusterId;
use crate::engine::{Engine, Table};

/// Where the engine stands; without this row there is no state.
pub(super) const APPLIED: &[u8] = b"applied";
/// Identifies the cluster the state belongs to.
pub(super) const CLUSTER_ID: &[u8] = b"cluster_id";
/// The version every member can speak.
pub(super) const CLUSTER_VERSION: &[u8] = b"cluster_version";
/// Then a member's id: the newest kind of command that it understands.
pub(super) const COMMAND_VERSION_OF: &[u8] = b"command_version/";
/// The revision up to which old versions are forgotten.
pub(super) const COMPACTION_SCHEDULED: &[u8] = b"compaction_scheduled";
/// The revision up to which their rows are gone as well.
pub(super) const COMPACTION_FINISHED: &[u8] = b"compaction_finished";
/// The layout of the tables, so that a later release can tell.
pub(super) const FORMAT: &[u8] = b"format";
/// The store's revision. Not derived from the rows: the newest may be a tombstone that a
/// compaction took (etcd#17780: revision decreases after a crash in compaction).
pub(super) const REVISION: &[u8] = b"revision";

/// The only layout there is so far.
const FORMAT_NUMBER: i64 = 1;

/// The state's marks, as one value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Marks {
    pub(super) cluster: ClusterId,
    pub(super) applied: AppliedMark,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) swept: i64,
}

impl Marks {
    /// The rows that say so.
    pub(super) fn rows(&self) -> [(&'static [u8], Bytes); 6] {
        let word = |number: i64| Bytes::copy_from_slice(&number.to_be_bytes());
        let cluster = Bytes::copy_from_slice(&self.cluster.0.to_be_bytes());
        [
            (APPLIED, Bytes::from(self.applied.encode_to_vec())),
            (CLUSTER_ID, cluster),
            (COMPACTION_FINISHED, word(self.swept)),
            (COMPACTION_SCHEDULED, word(self.compacted)),
            (FORMAT, word(FORMAT_NUMBER)),
            (REVISION, word(self.revision)),
        ]
    }

    /// Reads them back; `None` from an engine that holds no state.
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
        }))
    }
}

/// Refuses a layout that this release does not know.
fn check_format(format: i64) -> Result<(), StateError> {
    match format {
        FORMAT_NUMBER => Ok(()),
        newer if FORMAT_NUMBER < newer => Err(StateError::Newer {
            format: newer,
            known: FORMAT_NUMBER,
        }),
        _ => Err(StateError::Damaged(format!("layout {format}"))),
    }
}

/// The same for the layout that a snapshot's marks name.
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
