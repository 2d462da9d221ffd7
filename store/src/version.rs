//! The versions that Keelson reports, in one place: `Status`, `/version`, `--version` and the
//! logs.

/// Keelson's own version.
pub const KEELSON: &str = env!("CARGO_PKG_VERSION");

/// The etcd version of the API, as `Status`, `/version` and `--version` report it.
///
/// Only digits: Patroni, for example, does `int(x) for x in version.split('.')`, so a suffix such
/// as `-keelson` would stop it. In semver order a suffix also sorts before the release.
pub const ETCD: &str = "3.5.21";

/// The cluster version of a new cluster: etcd rounds the server's version down to the minor.
pub const CLUSTER: &str = "3.5.0";

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
}
