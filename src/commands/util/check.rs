//! `keelson util check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use keelson_store::check::{self, CheckError, CheckReport};
use keelson_store::internals::disk::{Disk, RealDisk};

/// Read every page, row and log record, and list what is damaged. Nothing is written. Exit status
/// 0: nothing is damaged; 1: something is; 2: it could not be checked.
#[derive(Debug, Parser)]
pub(super) struct CheckArguments {
    /// Snapshots of Keelson or etcd; or directories with files of --backup-dir.
    #[arg(required_unless_present = "data_dir")]
    snapshots: Vec<PathBuf>,
    /// The data directory of a stopped member.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The directory of its log, if it is another.
    #[arg(long, requires = "data_dir")]
    wal_dir: Option<PathBuf>,
}

impl CheckArguments {
    /// Checks, and prints what is found. Blocks the thread.
    pub(super) fn run(&self) -> ExitCode {
        let mut checks = Vec::new();
        if let Some(dir) = &self.data_dir {
            checks.push(directory(dir, self.wal_dir.as_deref()));
        }
        for path in &self.snapshots {
            checks.extend(snapshots(path));
        }
        let (mut damaged, mut failed) = (false, false);
        for check in checks {
            match check {
                Ok(report) => {
                    crate::print(&text(&report));
                    damaged |= !report.damaged.is_empty();
                }
                Err(error) => {
                    eprintln!("keelson util check: {error}");
                    failed = true;
                }
            }
        }
        match (damaged, failed) {
            (true, _) => ExitCode::from(1),
            (false, true) => ExitCode::from(2),
            (false, false) => ExitCode::SUCCESS,
        }
    }
}

fn directory(dir: &Path, wal_dir: Option<&Path>) -> Result<CheckReport, CheckError> {
    let scratch = tempfile::tempdir().map_err(|error| CheckError::Io {
        path: std::env::temp_dir(),
        error,
    })?;
    check::check_directory(dir, wal_dir, scratch.path())
}

/// The checks of a snapshot, or of all in a directory.
fn snapshots(path: &Path) -> Vec<Result<CheckReport, CheckError>> {
    if !path.is_dir() {
        return vec![check::check_file(path)];
    }
    let failed = |error| CheckError::Io {
        path: path.to_owned(),
        error,
    };
    let names = match RealDisk.list(path) {
        Ok(names) => names,
        Err(error) => return vec![Err(failed(error))],
    };
    let names = names.iter().filter(|name| name.ends_with(".db"));
    let paths: Vec<_> = names.map(|name| path.join(name)).collect();
    if paths.is_empty() {
        return vec![Err(CheckError::Nothing(path.to_owned()))];
    }
    paths.iter().map(|path| check::check_file(path)).collect()
}

fn text(report: &CheckReport) -> String {
    let found = report.found.iter().map(|line| format!("{line}\n"));
    let damaged = report
        .damaged
        .iter()
        .map(|line| format!("DAMAGED {line}\n"));
    let verdict = match report.damaged.is_empty() {
        true => "nothing is damaged\n",
        false => "something is damaged: restore a snapshot, or replace this member\n",
    };
    found.chain(damaged).collect::<String>() + verdict
}
