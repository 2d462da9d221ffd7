//! The names of scheduled snapshots: `snapshot-20261129T231437Z.db`.

use crate::logging;

/// The beginning of a name.
pub(super) const PREFIX: &str = "snapshot-";
/// The end of a name.
const SUFFIX: &str = ".db";

/// The name of a snapshot that is taken now.
pub(super) fn now() -> String {
    at(&logging::timestamp())
}

/// The name of a snapshot of that time, which is of RFC 3339 and UTC.
fn at(time: &str) -> String {
    let seconds = time.split(['.', 'Z']).next().unwrap_or_default();
    let digits: String = seconds
        .chars()
        .filter(|char| !"-:".contains(*char))
        .collect();
    format!("{PREFIX}{digits}Z{SUFFIX}")
}

/// Whether a scheduled snapshot has this name. Others may lie beside them, and are left alone.
pub(super) fn is_snapshot(name: &str) -> bool {
    let time = name.strip_prefix(PREFIX);
    let time = time.and_then(|rest| rest.strip_suffix(SUFFIX));
    let form = "00000000T000000Z";
    time.is_some_and(|time| {
        let fits = |(char, of): (char, char)| match of {
            '0' => char.is_ascii_digit(),
            of => char == of,
        };
        time.len() == form.len() && time.chars().zip(form.chars()).all(fits)
    })
}

/// The newest of these names that is one of a snapshot.
pub(super) fn newest<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names.into_iter().filter(|name| is_snapshot(name)).max()
}

/// The oldest snapshots among these names, but for the newest ones.
pub(super) fn superfluous<'a>(
    names: impl IntoIterator<Item = &'a str>,
    keep: usize,
) -> Vec<&'a str> {
    let snapshots = names.into_iter().filter(|name| is_snapshot(name));
    let mut snapshots: Vec<_> = snapshots.collect();
    snapshots.sort_unstable();
    snapshots.truncate(snapshots.len().saturating_sub(keep));
    snapshots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_times_and_the_newest_are_kept() {
        let name = at("2026-11-29T23:14:37.123456Z");
        assert_eq!(name, "snapshot-20261129T231437Z.db");
        assert!(is_snapshot(&name) && is_snapshot(&now()));
        let (one, two) = ("snapshot-20251129T231437Z.db", &*name);
        let names = [two, "other.db", one, "snapshot.part"];
        assert_eq!(superfluous(names, 1), [one]);
        assert_eq!(superfluous(names, 0), [one, two]);
        assert!(superfluous(names, 2).is_empty());
        assert_eq!(newest(names), Some(two));
    }

    /// Such a file was counted, and removed in its time.
    #[test]
    fn names_that_others_gave_are_none_of_ours() {
        for name in [
            "snapshot-before-upgrade.db",
            "snapshot-1Z.db",
            "snapshot-20261129T231437Z",
            "snapshot-20261129T231437Z.db.gz",
            "snapshot-2026112xT231437Z.db",
            "snapshot-20261129T2314377Z.db",
            "my-snapshot-20261129T231437Z.db",
        ] {
            assert!(!is_snapshot(name), "{name}");
        }
    }
}
