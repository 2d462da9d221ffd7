//! Automatic compaction, by etcd's rules.

use keelson_store::config::AutoCompaction;

use super::{OptionsError, newest};
use crate::flags::{self, Values};

/// `--auto-compaction-mode` and `--auto-compaction-retention`: as in etcd, a bare number is of
/// hours or of revisions, and a duration in the mode of revisions counts its nanoseconds.
pub(super) fn auto_compaction(values: &Values) -> Result<Option<AutoCompaction>, OptionsError> {
    let mode = values.text("auto-compaction-mode");
    if mode.is_empty() {
        return Err(OptionsError::NoCompactionMode);
    }
    let text = values.text(newest(values, "auto-compaction-retention"));
    let number: Option<u64> = text.parse().ok();
    let duration = flags::parse_duration(text);
    let revisions = |count: u128| {
        let kept = i64::try_from(count).unwrap_or(i64::MAX);
        (kept != 0).then_some(AutoCompaction::Revision(kept))
    };
    let period = |ms: u128| {
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        (ms != 0).then_some(AutoCompaction::Periodic(ms))
    };
    match (mode, number, duration) {
        // As in etcd.
        ("periodic" | "revision", ..) if text.is_empty() => Ok(None),
        ("periodic", Some(hours), _) => Ok(period(u128::from(hours) * 3_600_000)),
        ("revision", Some(count), _) => Ok(revisions(count.into())),
        ("periodic", None, Some(time)) => Ok(period(time.as_nanos().div_ceil(1_000_000))),
        ("revision", None, Some(time)) => Ok(revisions(time.as_nanos())),
        ("periodic" | "revision", None, None) => Err(OptionsError::Retention(text.to_owned())),
        _ => Err(OptionsError::CompactionMode(mode.to_owned())),
    }
}
