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

/// The verdicts, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CheckVerdict {
    Whole,
    Unchecked,
    Damaged,
}

impl CheckVerdict {
    fn of(report: &CheckReport) -> CheckVerdict {
        match (report.damaged.is_empty(), report.unchecked.is_empty()) {
            (false, _) => CheckVerdict::Damaged,
            (true, false) => CheckVerdict::Unchecked,
            (true, true) => CheckVerdict::Whole,
        }
    }

    const fn exit_status(self) -> u8 {
        match self {
            CheckVerdict::Whole => 0,
            CheckVerdict::Damaged => 1,
            CheckVerdict::Unchecked => 2,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            CheckVerdict::Whole => "nothing is damaged\n",
            CheckVerdict::Unchecked => "nothing that was read is damaged, and not all was read\n",
            CheckVerdict::Damaged => {
                "something is damaged: restore a snapshot, or replace this member\n"
            }
        }
    }
}

impl CheckArguments {
    /// Checks, and prints what is found. Blocks the thread.
    pub(super) fn run(&self) -> ExitCode {
        let (output, errors, verdict) = self.check();
        crate::print(&output);
        eprint!("{errors}");
        ExitCode::from(verdict.exit_status())
    }

    /// What is found, what could not be read at all, and the worst verdict.
    fn check(&self) -> (String, String, CheckVerdict) {
        let mut checks = Vec::new();
        if let Some(dir) = &self.data_dir {
            checks.push(directory(dir, self.wal_dir.as_deref()));
        }
        for path in &self.snapshots {
            checks.extend(snapshots(path));
        }
        let (mut output, mut errors, mut worst) =
            (String::new(), String::new(), CheckVerdict::Whole);
        for check in checks {
            let verdict = match check {
                Ok(report) => {
                    output += &text(&report);
                    CheckVerdict::of(&report)
                }
                Err(error) => {
                    errors += &format!("keelson util check: {error}\n");
                    CheckVerdict::Unchecked
                }
            };
            worst = worst.max(verdict);
        }
        (output, errors, worst)
    }
}

fn directory(dir: &Path, wal_dir: Option<&Path>) -> Result<CheckReport, CheckError> {
    let mut made = None;
    let mut scratch = || {
        let dir = tempfile::tempdir()?;
        let path = dir.path().to_owned();
        made = Some(dir);
        Ok(path)
    };
    check::check_directory(dir, wal_dir, &mut scratch)
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
    let damaged = &report.damaged;
    let damaged = damaged.iter().map(|line| format!("DAMAGED {line}\n"));
    let unchecked = &report.unchecked;
    let unchecked = unchecked.iter().map(|line| format!("UNCHECKED {line}\n"));
    let lines = found.chain(damaged).chain(unchecked);
    lines.collect::<String>() + CheckVerdict::of(report).text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(damaged: &[&str], unchecked: &[&str]) -> CheckReport {
        let lines = |of: &[&str]| of.iter().map(|line| (*line).to_owned()).collect();
        CheckReport {
            found: vec!["log: whole".to_owned()],
            damaged: lines(damaged),
            unchecked: lines(unchecked),
        }
    }

    #[test]
    fn each_verdict_has_its_exit_status_and_its_words() {
        let cases: [(&[&str], &[&str], u8, &str); 4] = [
            (&[], &[], 0, "log: whole\nnothing is damaged\n"),
            (&["a page"], &[], 1, "log: whole\nDAMAGED a page\nsomething"),
            (
                &["a page"],
                &["sled"],
                1,
                "log: whole\nDAMAGED a page\nUNCHECKED sled\nsome",
            ),
            (
                &[],
                &["sled"],
                2,
                "log: whole\nUNCHECKED sled\nnothing that was read",
            ),
        ];
        for (damaged, unchecked, status, begin) in cases {
            let report = report(damaged, unchecked);
            assert_eq!(CheckVerdict::of(&report).exit_status(), status);
            assert!(text(&report).starts_with(begin), "{}", text(&report));
        }
    }

    #[test]
    fn the_worst_of_several_is_the_verdict() {
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("s.db");
        std::fs::write(&broken, vec![7; 9000]).unwrap();
        let missing = dir.path().join("none.db");
        let verdict = |snapshots: &[&PathBuf]| {
            let arguments = CheckArguments {
                snapshots: snapshots.iter().map(|path| (*path).clone()).collect(),
                data_dir: None,
                wal_dir: None,
            };
            arguments.check()
        };
        let (output, errors, worst) = verdict(&[&missing, &broken]);
        assert_eq!(worst, CheckVerdict::Damaged, "{output}{errors}");
        assert!(output.contains("DAMAGED") && errors.contains("none.db"));
        assert_eq!(verdict(&[&missing]).2, CheckVerdict::Unchecked);
    }
}
