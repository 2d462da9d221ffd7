//! A state from the rows of another store: from a snapshot, or from an etcd's data directory.
//!
//! Rows of pairs stay as they are, so HashKV stays the same. Members and Raft's membership are the
//! new cluster's.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::authpb;
use keelson_proto::etcdserverpb::AlarmMember;
use keelson_proto::internal::{AuthMeta, AuthUser, LeaseRow};
use prost::Message;

use super::auth::AuthRow;
use super::error::StateError;
use super::leases::lease_key;
use super::meta::{self, Marks};
use super::registry::{alarm_key, member_key};
use super::revision::RowKey;
use super::{Genesis, rows, tree};
use crate::engine::{Engine, Table, WriteBatch};

/// The size of a write batch, in bytes.
const BATCH_BYTES: usize = 4 << 20;
/// etcd's revision of users and roles that were never changed.
const REVISION_UNUSED: u64 = 1;

/// Writes rows to an empty engine. Until `finish`, the engine counts as empty.
pub struct Import {
    engine: Arc<dyn Engine>,
    batch: WriteBatch,
    batch_bytes: usize,
    /// The index of the log at which the state begins.
    index: u64,
    /// Added to the v2 tree's index.
    tree_bump: u64,
    newest: i64,
    has_tree: bool,
    has_auth: bool,
    is_standby: bool,
}

/// What the state begins with, beside the imported rows.
#[derive(Clone, Debug)]
pub struct ImportEnd {
    /// Cluster, members, and the position in the log.
    pub genesis: Genesis,
    /// The store's revision.
    pub revision: i64,
    /// Revisions below this one cannot be read; -1 for none.
    pub compacted: i64,
}

impl Import {
    /// Begins with an empty engine. The state will begin at that index of the log, with the v2
    /// tree's index raised by `tree_bump`.
    pub fn new(engine: Arc<dyn Engine>, index: u64, tree_bump: u64) -> Import {
        Import {
            engine,
            batch: WriteBatch::default(),
            batch_bytes: 0,
            index,
            tree_bump,
            newest: 1,
            has_tree: false,
            has_auth: false,
            is_standby: false,
        }
    }

    /// Makes it the state of a standby of the cluster that the rows are from; before any row.
    pub fn standby(&mut self) {
        self.is_standby = true;
        let key = Bytes::from_static(meta::STANDBY);
        self.batch.put(Table::Meta, key, Bytes::from_static(&[1]));
    }

    /// The newest revision of the rows so far; 1 without any.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Adds a row of the pairs. One without a key, with which etcd's restore raises the revision,
    /// only counts for [`Import::newest`].
    ///
    /// # Errors
    /// [`StateError::Damaged`] for what is no such row, and those of the engine.
    pub fn pair(&mut self, key: Bytes, row: Bytes) -> Result<(), StateError> {
        let name = RowKey::decode(&key).filter(|name| 0 < name.main);
        let name = name.ok_or_else(|| damaged("a pair's revision", &key))?;
        let peek = rows::peek(&row).ok_or_else(|| damaged("the pair of revision", &key))?;
        self.newest = self.newest.max(name.main);
        match peek.key.is_empty() {
            true => Ok(()),
            false => self.put(Table::Key, key, row),
        }
    }

    /// Adds a lease.
    ///
    /// # Errors
    /// [`StateError::Damaged`] for the id 0, and those of the engine.
    pub fn lease(&mut self, lease: LeaseRow) -> Result<(), StateError> {
        if lease.id == 0 {
            return Err(damaged("a lease", b"0"));
        }
        let row = LeaseRow {
            granted: self.index,
            // At its source it may be renewed, which no watch shows.
            remaining_ttl: match self.is_standby {
                true => 0,
                false => lease.remaining_ttl,
            },
            ..lease
        };
        self.put(Table::Leases, lease_key(row.id), row.encode_to_vec().into())
    }

    /// Adds a user. Tokens from before are not valid, nor JWTs of an earlier revision of auth: the
    /// revision of the user's password is not known.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn user(&mut self, user: authpb::User, revision: u64) -> Result<(), StateError> {
        self.has_auth = true;
        let key = AuthRow::User(&user.name).key();
        let row = AuthUser {
            user: Some(user),
            since: self.index,
            since_revision: revision,
        };
        self.put(Table::Auth, key, row.encode_to_vec().into())
    }

    /// Adds a role.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn role(&mut self, role: &authpb::Role) -> Result<(), StateError> {
        self.has_auth = true;
        let key = AuthRow::Role(&role.name).key();
        self.put(Table::Auth, key, role.encode_to_vec().into())
    }

    /// Sets whether auth is enabled.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn auth(&mut self, auth: &AuthMeta) -> Result<(), StateError> {
        self.has_auth |= auth.enabled || REVISION_UNUSED < auth.revision;
        self.put(
            Table::Auth,
            AuthRow::Meta.key(),
            auth.encode_to_vec().into(),
        )
    }

    /// Adds an alarm.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn alarm(&mut self, alarm: &AlarmMember) -> Result<(), StateError> {
        let key = alarm_key(alarm.alarm, alarm.member_id);
        self.put(Table::Alarms, key, alarm.encode_to_vec().into())
    }

    /// Adds a row of the v2 tree.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn tree(&mut self, key: Bytes, row: Bytes) -> Result<(), StateError> {
        self.has_tree = true;
        let row = tree::bumped(&key, row, self.tree_bump);
        self.put(Table::Tree, key, row)
    }

    /// Makes the state valid. Then `StateMachine::open` opens it.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn finish(mut self, end: ImportEnd) -> Result<(), StateError> {
        let members = end.genesis.members;
        if !self.has_tree {
            for (key, row) in tree::founded_by(members.len()) {
                self.put(Table::Tree, key, row)?;
            }
        }
        for member in members {
            let row = member.encode_to_vec();
            self.put(Table::Members, member_key(member.id), row.into())?;
        }
        self.write()?;
        let marks = Marks {
            cluster: end.genesis.cluster_id,
            applied: end.genesis.mark,
            revision: end.revision,
            compacted: end.compacted,
            swept: -1,
            has_auth: self.has_auth,
            is_standby: self.is_standby,
        };
        for (key, row) in marks.rows() {
            self.batch.put(Table::Meta, key, row);
        }
        self.write()
    }

    fn put(&mut self, table: Table, key: Bytes, row: Bytes) -> Result<(), StateError> {
        self.batch_bytes += key.len() + row.len();
        self.batch.put(table, key, row);
        match BATCH_BYTES <= self.batch_bytes {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), StateError> {
        self.engine.write(&self.batch)?;
        self.batch.changes.clear();
        self.batch_bytes = 0;
        Ok(())
    }
}

fn damaged(what: &str, which: &[u8]) -> StateError {
    StateError::Damaged(format!("{what} {}", which.escape_ascii()))
}
