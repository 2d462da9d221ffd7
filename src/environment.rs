//! The only reader of the process's environment.

use keelson_discovery::{Size, SizeError};

/// Variables whose names begin with `ETCD_`, sorted; values that are not UTF-8 are left out.
pub(crate) fn etcd_variables() -> Vec<(String, String)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the one that reads it"
    )]
    let all = std::env::vars_os();
    let mut found: Vec<(String, String)> = all
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("ETCD_"))
        .collect();
    found.sort();
    found
}

/// One variable by name; an empty one counts as unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the one that reads it"
    )]
    let text = std::env::var(name).ok()?;
    if text.is_empty() { None } else { Some(text) }
}

/// The number of members from `DEIS_NUM_INSTANCES`, if it is set.
pub(crate) fn deis_num_instances() -> Option<Result<Size, SizeError>> {
    variable(DEIS_NUM_INSTANCES).map(|text| text.parse())
}

/// `--config-file` under our own name; it has precedence over etcd's.
pub(crate) const CONFIG_FILE: &str = "KEELSON_CONFIG_FILE";

/// Deis's variable for the size of a platform.
pub(crate) const DEIS_NUM_INSTANCES: &str = "DEIS_NUM_INSTANCES";

/// Set by the playground for its child processes: end when standard input ends. Not for users.
pub(crate) const END_WITH_STDIN: &str = "KEELSON_END_WITH_STDIN";

/// The program that the playground starts as its hosts, instead of itself. For its development.
pub(crate) const PLAYGROUND_BINARY: &str = "KEELSON_PLAYGROUND_BINARY";

/// The socket on which systemd waits for `READY=1`.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
