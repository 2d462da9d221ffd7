//! The data directory of a stopped member: its log, its engine, and whether they are of one piece.

use std::io;
use std::path::Path;
use std::sync::Arc;

use keelson_core::engine::{Engine, EngineError};
use keelson_core::state::{Limits, StateMachine, is_understood};
use keelson_core::{Committed, Entry, EntryKind, LastIncluded, proposal};

use super::scratch::{self, Scratch};
use super::{CheckError, CheckReport};
use crate::Config;
use crate::disk::ReadOnlyDisk;
use crate::engine::{self, StorageEngine, generation};
use crate::member::foreign;
use crate::member::recover::Layout;
use crate::wal::{Examined, Wal, WalError};

/// Checks a data directory. An engine that cannot be opened without a change, sled, is copied to
/// the empty directory that `scratch` makes, and opened there.
///
/// # Errors
/// A member runs on it, it holds none, or it is an etcd's.
pub fn check_directory(
    data_dir: &Path,
    wal_dir: Option<&Path>,
    scratch: Scratch<'_>,
) -> Result<CheckReport, CheckError> {
    let config = Config {
        wal_dir: wal_dir.map(Path::to_path_buf),
        ..Config::single("checked", data_dir)
    };
    if foreign::refuse_etcds(&config).is_err() {
        return Err(CheckError::Etcds(data_dir.to_owned()));
    }
    let layout = Layout::of(&config);
    let has_log = layout.wal.is_dir();
    let has_state = layout.snap.join(generation::CURRENT).exists();
    if !has_log && !has_state {
        return Err(CheckError::Nothing(data_dir.to_owned()));
    }
    let mut report = CheckReport::default();
    // To the end: a member that starts meanwhile would change what is read.
    let _locked = match Wal::lock(&ReadOnlyDisk, &layout.wal) {
        Err(WalError::Locked { .. }) => return Err(CheckError::InUse(data_dir.to_owned())),
        // Another user's files are not damaged.
        Err(WalError::Io { path, source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            return Err(CheckError::io(&path)(source));
        }
        locked => locked,
    };
    let log = match Wal::examine(&ReadOnlyDisk, &layout.wal) {
        Ok(None) => {
            report.damaged.push("log: there is none".to_owned());
            None
        }
        Ok(Some(log)) => report.note("log", Ok::<_, WalError>(log), shown),
        Err(error) => report.note("log", Err(error), shown),
    };
    if let Some(log) = &log {
        check_entries(log, &mut report);
    }
    let current = generation::current_in(&ReadOnlyDisk, &layout.snap);
    let current = report.note("state", current, |current| match current {
        Some(dir) => format!("{}", dir.display()),
        None => "none yet: it is in the log".to_owned(),
    });
    let Some(Some(dir)) = current else {
        return Ok(report);
    };
    let state = open(&dir, scratch, &mut report);
    let state = state.and_then(|engine| open_state(engine, &mut report));
    if let (Some(Some(mut state)), Some(log)) = (state, log) {
        compare(&state, &log, &mut report);
        if report.damaged.is_empty() {
            find_divergence(&mut state, log, &mut report);
        }
    }
    Ok(report)
}

fn shown(log: &Examined) -> String {
    let mut text = format!(
        "member {:x} of cluster {:x}, {} segments, entries {} to {}, committed up to {}",
        log.identity.member.0,
        log.identity.cluster.0,
        log.segments,
        log.mark.index.0 + 1,
        log.last.0,
        log.commit.0
    );
    if let Some(repaired) = &log.repaired {
        text += &format!("; the next start will {repaired}");
    }
    text
}

/// Checks that every command in the log can be applied.
fn check_entries(log: &Examined, report: &mut CheckReport) {
    for entry in &log.entries {
        let command = match entry.kind {
            EntryKind::Command => proposal::decode(&entry.data),
            EntryKind::Membership => None,
        };
        if command.is_some_and(|(_, command)| !is_understood(&command)) {
            let index = entry.index;
            let text = format!("log: entry {index} is damaged, or of a newer release");
            report.damaged.push(text);
        }
    }
}

/// Opens the engine, after all of its pages are read.
fn open(dir: &Path, scratch: Scratch<'_>, report: &mut CheckReport) -> Option<Arc<dyn Engine>> {
    let kind = StorageEngine::of_dir(dir);
    let name = kind.name();
    let opened = match kind {
        #[cfg(feature = "lmdb")]
        StorageEngine::Lmdb => engine::read_lmdb(dir).and_then(|lmdb| {
            let counts = lmdb.check()?;
            let engine: Arc<dyn Engine> = Arc::new(lmdb);
            Ok((
                engine,
                format!("{} pages, {} rows", counts.pages, counts.rows),
            ))
        }),
        StorageEngine::Sled => open_copy(kind, dir, scratch, report)?,
        _ => return None,
    };
    let found = |found: &(_, String)| found.1.clone();
    report.note(name, opened, found).map(|(engine, _)| engine)
}

fn open_state(engine: Arc<dyn Engine>, report: &mut CheckReport) -> Option<Option<StateMachine>> {
    let unlimited = Limits {
        quota_bytes: u64::MAX,
    };
    let opened = StateMachine::open(engine, unlimited);
    report.note("state", opened, |state| match state {
        Some(state) => format!(
            "{} keys at revision {}, entry {} applied",
            state.view().key_count(),
            state.view().revision(),
            state.applied().index
        ),
        None => "empty".to_owned(),
    })
}

type OpenedCopy = Result<(Arc<dyn Engine>, String), EngineError>;

/// Opens a copy of the engine. `None` if the copy failed, which is no damage: the report has it.
fn open_copy(
    kind: StorageEngine,
    dir: &Path,
    scratch: Scratch<'_>,
    report: &mut CheckReport,
) -> Option<OpenedCopy> {
    let name = kind.name();
    let unchecked = |error: io::Error| format!("{name}: it needs a copy, and {error}");
    let made = scratch().map_err(|error| {
        let text = format!("the temporary directory cannot be made: {error}");
        io::Error::new(error.kind(), text)
    });
    let copied = made.and_then(|to| scratch::copy(dir, &to).map(|()| to));
    let to = copied.map_err(|error| report.unchecked.push(unchecked(error)));
    let to = to.ok()?;
    match engine::open(kind, &to, 0) {
        Ok(engine) => Some(Ok((engine, "its copy opens".to_owned()))),
        Err(error) => match scratch::has_room(&to) {
            Ok(()) => Some(Err(error)),
            Err(full) => {
                report.unchecked.push(unchecked(full));
                None
            }
        },
    }
}

/// Whether the member is fenced, perhaps by an entry that is not in the engine yet. Nothing is
/// written: what is applied stays in memory.
fn find_divergence(state: &mut StateMachine, log: Examined, report: &mut CheckReport) {
    let applied = state.applied().index;
    let committed = |entry: &Entry| applied < entry.index.0 && entry.index <= log.commit;
    for entry in log.entries.into_iter().filter(committed) {
        let index = entry.index;
        let committed = Committed { entry, conf: None };
        if let Err(error) = state.apply(&committed, false) {
            let text = format!("entry {index} cannot be applied: {error}");
            report.damaged.push(text);
            return;
        }
    }
    if let Some(divergence) = state.divergence() {
        report.damaged.push(format!(
            "the state differs from the majority's since entry {} or before: it serves no client. \
             Start the member, which then gets the leader's state; or export and copy another one",
            divergence.index
        ));
    }
}

/// Whether the log goes on where the state ends.
fn compare(state: &StateMachine, log: &Examined, report: &mut CheckReport) {
    let applied = LastIncluded::from(&state.applied()).index;
    if state.view().cluster_id() != log.identity.cluster {
        let text = "the log and the state are of different clusters";
        report.damaged.push(text.to_owned());
    }
    if applied < log.mark.index {
        report.damaged.push(format!(
            "the state ends at entry {applied}, and the log begins after entry {}",
            log.mark.index
        ));
    }
    if log.last < applied {
        report.damaged.push(format!(
            "the state has entry {applied}, and the log ends at entry {}",
            log.last
        ));
    }
}
