//! The scheduled snapshots of a member.

use super::super::facts::{BackupFacts, MemberFacts, MemberStatus, NewestBackup};
use super::super::finding::Severity::*;
use super::Findings;

/// A snapshot of so many intervals is old: one was left out.
const OLD_INTERVALS: f64 = 2.0;
/// The time in seconds that a snapshot may take.
const TAKING_SECONDS: f64 = 300.0;

/// Snapshots that fail, or that are not taken.
pub(super) fn backups(found: &mut Findings, member: &MemberFacts, status: &MemberStatus) {
    let Some(backup) = &status.metrics.backup else {
        return;
    };
    let newest = match backup.newest {
        NewestBackup::Age(age) => format!("the newest is {} old", hours(age)),
        NewestBackup::None => "there is none".to_owned(),
        NewestBackup::Unknown => "the age of the newest is unknown".to_owned(),
    };
    let fault = match backup {
        BackupFacts {
            has_failed: true, ..
        } => {
            format!("its last scheduled snapshot failed, or older ones were not removed; {newest}")
        }
        BackupFacts {
            newest: NewestBackup::Age(age),
            interval,
            ..
        } if OLD_INTERVALS * interval + TAKING_SECONDS < *age => {
            let interval = hours(*interval);
            format!("its --backup-interval is {interval}, and {newest}")
        }
        _ => return,
    };
    let remedy = "its log names the cause: check the room and the rights of its --backup-dir, or \
                  the bucket and its AWS_ variables";
    found.add(Warning, "backup", Some(member), fault, remedy);
}

fn hours(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(newest: NewestBackup, has_failed: bool) -> Option<String> {
        let mut status = MemberStatus::default();
        status.metrics.backup = Some(BackupFacts {
            interval: 3600.0,
            newest,
            has_failed,
        });
        let mut found = Findings::default();
        backups(&mut found, &MemberFacts::default(), &status);
        found.0.pop().map(|finding| finding.fault)
    }

    #[test]
    fn snapshots_that_fail_or_are_old_are_found() {
        let mut none = Findings::default();
        backups(&mut none, &MemberFacts::default(), &MemberStatus::default());
        assert!(none.0.is_empty());
        // A new member takes the first one.
        assert_eq!(found(NewestBackup::None, false), None);
        assert_eq!(found(NewestBackup::Unknown, false), None);
        assert_eq!(found(NewestBackup::Age(7_400.0), false), None);
        let old = found(NewestBackup::Age(8_000.0), false).unwrap();
        assert_eq!(
            old,
            "its --backup-interval is 60 min, and the newest is 2 h old"
        );
        for (newest, text) in [
            (NewestBackup::Age(90.0), "the newest is 90 s old"),
            (NewestBackup::None, "there is none"),
            (NewestBackup::Unknown, "the age of the newest is unknown"),
        ] {
            let failed = found(newest, true).unwrap();
            let begin = "its last scheduled snapshot failed, or older ones were not removed; ";
            assert_eq!(failed.strip_prefix(begin), Some(text));
        }
    }
}
