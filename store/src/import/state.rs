//! From an etcd's files to a state, and to a data directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::state::{Import, ImportEnd, Limits, StateError, StateMachine};
use keelson_core::{Committed, Entry, EntryKind, Index, LastIncluded, ProposalId, Term, proposal};
use prost::Message;

use super::apply;
use super::log::EtcdLog;
use super::messages::{InternalRequest, RaftEntry, V2Request};
use super::tail::Unread;
use super::v2::{self, V2Store};
use crate::Config;
use crate::disk::{Disk, ReadOnlyFile, RealDisk};
use crate::snapshot::directory::NewDirectory;
use crate::snapshot::dropped;
use crate::snapshot::hash_kv::compacted;
use crate::snapshot::restore::{RestoreError, fill, fill_alarms, word};
use crate::snapshot::{DroppedMember, InputError, SnapshotFile, buckets};

/// Bytes of applied rows that are written to the engine at once.
const FLUSH_BYTES: u64 = 32 << 20;

/// A data directory that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Cluster and member.
    pub identity: (u64, u64),
    /// The store's revision.
    pub revision: i64,
    /// The index of the v2 tree.
    pub v2_index: u64,
    /// The entries of the log that were not in the database or the v2 snapshot.
    pub entries: u64,
    /// The entries that the database includes, and neither the log nor the v2 snapshot.
    pub beyond_log: u64,
    /// What the end of the log has that is no whole record, and was left out.
    pub unread: Option<Unread>,
    /// The members of the etcd, which are not in the new cluster.
    pub dropped: Vec<DroppedMember>,
}

/// Why a data directory is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// It holds no etcd.
    #[error("{} holds neither a database nor a log of etcd", .0.display())]
    Nothing(PathBuf),
    /// The etcd was not stopped.
    #[error("{} is in use by another process: stop the etcd first", .0.display())]
    Running(PathBuf),
    /// The log is damaged other than at its end.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Committed entries are missing.
    #[error(
        "entries {} to {end} were committed, and {}: files or records are missing. Import the \
         directory of another member", holds + 1, extent(*log)
    )]
    Gap {
        /// The last entry that the files include.
        holds: u64,
        /// The last one that was committed.
        end: u64,
        /// The first and the last entry of the log; `None` if it has none.
        log: Option<(u64, u64)>,
    },
    /// The database cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A row or an entry has no place in a state.
    #[error("the data cannot be imported: {0}")]
    State(#[from] StateError),
    /// The new directory cannot be made.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

fn extent(log: Option<(u64, u64)>) -> String {
    match log {
        Some((first, last)) => format!("the log has {first} to {last}"),
        None => "the log has none".to_owned(),
    }
}

impl ImportError {
    pub(super) fn io(path: &Path, error: io::Error) -> ImportError {
        ImportError::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// What a stopped etcd left.
struct StoppedEtcd {
    database: Option<SnapshotFile>,
    v2: V2Store,
    log: EtcdLog,
}

/// Makes the data directory of `config` from that of a stopped etcd, as a member of the new cluster
/// that `config` describes. The etcd's files are only read. Blocks the thread.
///
/// # Errors
/// Those of [`ImportError`]; a directory that was begun must be removed.
pub fn import(
    from: &Path,
    wal_dir: Option<&Path>,
    config: &Config,
) -> Result<Imported, ImportError> {
    let source = StoppedEtcd::open(from, wal_dir)?;
    let directory = NewDirectory::begin(config)?;
    let (mut end, held) = source.begin(&directory)?;
    let mut import = Import::new(Arc::clone(&directory.engine), held.first(), 0);
    let dropped = match &source.database {
        Some(database) => {
            fill_alarms(database, &mut import)?;
            fill(database, &mut import)?
        }
        None => Vec::new(),
    };
    for (key, row) in &source.v2.rows {
        import.tree(key.clone(), row.clone())?;
    }
    end.revision = import.newest().max(end.compacted);
    import.finish(end)?;
    let engine = Arc::clone(&directory.engine);
    let state = StateMachine::open(
        Arc::clone(&engine),
        Limits {
            quota_bytes: u64::MAX,
        },
    )?;
    let mut state = state.ok_or_else(|| StateError::Damaged("no state".to_owned()))?;
    let mut entries = 0;
    for entry in source.log.entries(held.first(), source.end(held)?)? {
        state.apply(&committed(entry?, held), false)?;
        entries += 1;
        if FLUSH_BYTES < state.unflushed().bytes {
            flush(&mut state, &*engine)?;
        }
    }
    flush(&mut state, &*engine)?;
    let mark = LastIncluded::from(&state.applied());
    let (revision, v2_index) = (state.view().revision(), state.view().tree_index());
    drop((state, engine));
    let identity = directory.identity;
    directory.finish(mark)?;
    Ok(Imported {
        identity: (identity.cluster.0, identity.member.0),
        revision,
        v2_index,
        entries,
        beyond_log: source.beyond_log(held),
        unread: source.log.unread,
        dropped,
    })
}

/// The last entries that the database and the v2 snapshot include.
#[derive(Clone, Copy)]
struct Held {
    v3: u64,
    v2: u64,
}

impl Held {
    /// Where the log is needed from.
    fn first(self) -> u64 {
        self.v3.min(self.v2)
    }
}

/// etcd locks the segments of its log that it may still write; an etcd 2 has no other lock.
fn refuse_running(wal: &Path) -> Result<(), ImportError> {
    let names = RealDisk.list(wal).unwrap_or_default();
    let newest = names.iter().filter(|name| name.ends_with(".wal")).max();
    let path = newest.map(|name| wal.join(name));
    let locked = path
        .as_deref()
        .map(|path| ReadOnlyFile::open(path)?.try_lock_shared());
    match (path, locked) {
        (Some(path), Some(Err(error))) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ImportError::Running(path))
        }
        // Any other error shows when the log is read.
        _ => Ok(()),
    }
}

/// The database. A leader's snapshot comes as a file beside it, which replaces it after the
/// snapshot's other half is durable: it is the database if that was the last step (etcd's
/// `recoverSnapshotBackend`).
fn database(snap: &Path, v2_index: u64) -> Result<Option<SnapshotFile>, ImportError> {
    let database = open_database(snap.join("db"))?;
    let held = match &database {
        Some(database) => word(database, buckets::CONSISTENT_INDEX)?,
        None => 0,
    };
    if held < v2_index
        && let Some(received) = open_database(snap.join(format!("{v2_index:016x}.snap.db")))?
    {
        return Ok(Some(received));
    }
    Ok(database)
}

fn open_database(path: PathBuf) -> Result<Option<SnapshotFile>, ImportError> {
    if !RealDisk.exists(&path).unwrap_or_default() {
        return Ok(None);
    }
    // bbolt locks it, and writes pages again that are read here.
    match SnapshotFile::open_stopped(&path) {
        Ok(file) => Ok(Some(file)),
        Err(InputError::Io { error, .. }) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ImportError::Running(path))
        }
        Err(error) => Err(error.into()),
    }
}

impl StoppedEtcd {
    fn open(from: &Path, wal_dir: Option<&Path>) -> Result<StoppedEtcd, ImportError> {
        let member = from.join("member");
        let wal = wal_dir.map_or_else(|| member.join("wal"), Path::to_path_buf);
        let snap = member.join("snap");
        if !RealDisk.exists(&wal).unwrap_or_default() {
            return Err(ImportError::Nothing(from.to_owned()));
        }
        refuse_running(&wal)?;
        let v2 = v2::newest(&snap)?;
        Ok(StoppedEtcd {
            database: database(&snap, v2.index)?,
            v2,
            log: EtcdLog::open(&wal)?,
        })
    }

    /// Up to where entries are known to be committed: what a state includes is, too, and a hard
    /// state may be older. An etcd up to 3.4.20 or 3.5.4 may apply entries that its log does not
    /// have yet, and starts again after a crash at that moment: its database may be ahead of the
    /// log, but of no log without a record.
    fn known(&self, held: Held) -> u64 {
        let v3 = match (self.log.last(), self.log.commit) {
            (0, 0) => held.v3,
            (last, _) => held.v3.min(last),
        };
        self.log.commit.max(held.v2).max(v3)
    }

    fn beyond_log(&self, held: Held) -> u64 {
        held.v3.saturating_sub(self.log.last().max(held.v2))
    }

    /// The last committed entry. etcd acknowledges a write before its hard state has the commit; a
    /// member that is the only voter commits at its start what its log has.
    fn end(&self, held: Held) -> Result<u64, ImportError> {
        let known = self.known(held);
        let members = match &self.database {
            Some(database) => dropped::members(database)?.len(),
            None => 0,
        };
        let last = self.log.last();
        if members != 1 || last <= known {
            return Ok(known);
        }
        for entry in self.log.entries(held.first(), last)? {
            // The members of the database may not be the last ones.
            if entry?.kind != 0 {
                return Ok(known);
            }
        }
        Ok(last)
    }

    /// The place in the log at which the state begins, and what it includes from later entries.
    fn begin(&self, directory: &NewDirectory) -> Result<(ImportEnd, Held), ImportError> {
        let mut held = Held {
            v3: 0,
            v2: self.v2.index,
        };
        let (mut compaction, mut term) = (-1, self.v2.term);
        match &self.database {
            Some(database) => {
                held.v3 = word(database, buckets::CONSISTENT_INDEX)?;
                compaction = compacted(database)?;
                term = term.max(word(database, buckets::TERM)?);
            }
            // It had no v3 keys up to there.
            None if self.v2.is_of_etcd_2 => held.v3 = self.v2.index,
            None => {}
        }
        let mut genesis = directory.genesis.clone();
        genesis.mark.index = held.first();
        // The entries that follow have terms of their own, up to the log's.
        genesis.mark.term = term.min(self.log.term).max(1);
        let end = ImportEnd {
            genesis,
            revision: 1,
            compacted: compaction,
        };
        Ok((end, held))
    }
}

/// An entry of etcd as one of ours: empty if the state includes it, or if it changes nothing here.
fn committed(entry: RaftEntry, held: Held) -> Committed {
    let command = match entry.kind {
        0 => command(entry.index, entry.data.unwrap_or_default(), held),
        // A change of members is a change of the v2 tree there.
        _ if held.v2 < entry.index => Some(apply::raising()),
        _ => None,
    };
    let data = command.map(|command| {
        let command = Bytes::from(command.encode_to_vec());
        proposal::encode(ProposalId::default(), &command)
    });
    Committed {
        entry: Entry {
            index: Index(entry.index),
            term: Term(entry.term),
            kind: EntryKind::Command,
            data: data.unwrap_or_default(),
            context: Bytes::new(),
        },
        conf: None,
    }
}

fn command(index: u64, data: Bytes, held: Held) -> Option<keelson_proto::internal::Command> {
    if data.is_empty() {
        return None;
    }
    let of_v2 = |request| apply::of_v2(request).filter(|_| held.v2 < index);
    match InternalRequest::decode(data.clone()) {
        Ok(InternalRequest { v2: Some(v2), .. }) => of_v2(v2),
        // etcd 2's entries are requests of the v2 API alone, whose fields have other types.
        Ok(request) => match V2Request::decode(data) {
            Ok(v2) if !v2.method.is_empty() => of_v2(v2),
            _ => apply::of_v3(request).filter(|_| held.v3 < index),
        },
        Err(_) => of_v2(V2Request::decode(data).ok()?),
    }
}

fn flush(
    state: &mut StateMachine,
    engine: &dyn keelson_core::engine::Engine,
) -> Result<(), ImportError> {
    if let Some(flush) = state.rotate() {
        engine.write(&flush.batch).map_err(StateError::from)?;
        state.flushed(flush);
    }
    Ok(())
}
