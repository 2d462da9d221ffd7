//! The versions that Keelson reports, in one place: `Status`, `/version`, `--version` and the
//! logs.

use keelson_core::state::{COMMAND_VERSION, version_below};

/// Keelson's own version.
pub const KEELSON: &str = env!("CARGO_PKG_VERSION");

/// The etcd version of the API, as `Status`, `/version` and `--version` report it.
///
/// Only digits: Patroni, for example, does `int(x) for x in version.split('.')`, so a suffix such
/// as `-keelson` would stop it. In semver order a suffix also sorts before the release.
pub const ETCD: &str = "3.5.21";

/// The cluster version of a new cluster: etcd rounds the server's version down to the minor.
pub const CLUSTER: &str = "3.5.0";

/// The cluster version of a cluster whose members all understand that kind of command: the minor
/// below stands for the release before this one.
pub(crate) fn cluster_of(command_version: u32) -> String {
    let below = match COMMAND_VERSION <= command_version {
        true => None,
        false => version_below(CLUSTER),
    };
    below.unwrap_or_else(|| CLUSTER.to_owned())
}

/// Whether the cluster version is below the other one.
pub(crate) fn is_below(version: &str, other: &str) -> bool {
    let parts = |version: &str| -> Vec<u64> {
        let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        parts.collect()
    };
    parts(version) < parts(other)
}

/// The cluster version of a version that an operator has given: go-semver's syntax, where the patch
/// may be missing. `None` for what is no version.
pub(crate) fn parse_cluster(text: &str) -> Option<String> {
    let whole = |text: &str| {
        let version = text.split_once('+').map_or(text, |(version, _)| version);
        let version = version
            .split_once('-')
            .map_or(version, |(version, _)| version);
        let parts: Option<Vec<u64>> = version.splitn(3, '.').map(number).collect();
        match parts?[..] {
            [major, minor, _] => Some(format!("{major}.{minor}.0")),
            _ => None,
        }
    };
    whole(text).or_else(|| whole(&format!("{text}.0")))
}

fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// `3.5` of `3.5.0`: the form of a cluster version in etcd's log lines.
pub fn major_minor(version: &str) -> &str {
    match version.match_indices('.').nth(1) {
        Some((at, _)) => &version[..at],
        None => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_number() {
        for version in [ETCD, CLUSTER] {
            assert!(
                version.split('.').all(|part| part.parse::<u32>().is_ok()),
                "{version}"
            );
            assert_eq!(version.split('.').count(), 3);
        }
        assert_eq!(major_minor(CLUSTER), major_minor(ETCD));
        assert_eq!(major_minor("3.5.21"), "3.5");
    }

    #[test]
    fn versions_of_operators_are_read_as_go_semver_reads_them() {
        for (text, cluster) in [
            ("3.4", Some("3.4.0")),
            ("3.4.9", Some("3.4.0")),
            ("3.4.9-rc.1+5", Some("3.4.0")),
            ("03.04.0", Some("3.4.0")),
            ("3", None),
            ("", None),
            ("v3.4.0", None),
            ("3.4.0.1", None),
            ("3.4.", None),
            ("3.x", None),
            ("3.+4.0", None),
            ("-3.4.0", None),
        ] {
            assert_eq!(parse_cluster(text).as_deref(), cluster, "{text}");
        }
    }

    #[test]
    fn cluster_versions_are_in_the_order_of_their_numbers() {
        assert!(is_below("3.4.0", "3.5.0") && is_below("3.9.0", "3.10.0"));
        assert!(!is_below("3.5.0", "3.5.0") && !is_below("4.0.0", "3.5.0"));
        assert_eq!(cluster_of(COMMAND_VERSION), CLUSTER);
        assert!(is_below(&cluster_of(COMMAND_VERSION - 1), CLUSTER));
    }
}
