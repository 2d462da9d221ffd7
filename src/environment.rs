//! The only door to the process's environment.

use keelson_discovery::{Size, SizeError};

/// Variables whose names begin with `ETCD_`, sorted; what is not UTF-8 is left out.
pub(crate) fn etcd_variables() -> Vec<(String, String)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    let all = std::env::vars_os();
    let mut found: Vec<(String, String)> = all
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("ETCD_"))
        .collect();
    found.sort();
    found
}

/// One variable by name; empty is unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    let text = std::env::var(name).ok()?;
    if text.is_empty() { None } else { Some(text) }
}

/// How many members Deis wants, `DEIS_NUM_INSTANCES`, if it says so.
pub(crate) fn deis_num_instances() -> Option<Result<Size, SizeError>> {
    variable(DEIS_NUM_INSTANCES).map(|text| text.parse())
}

/// Deis's own name for the size of a platform.
pub(crate) const DEIS_NUM_INSTANCES: &str = "DEIS_NUM_INSTANCES";

/// Set by the playground for what it starts: end when standard input ends. Not for users.
pub(crate) const END_WITH_STDIN: &str = "KEELSON_END_WITH_STDIN";

/// Another program for the playground to start as its hosts. For developing the playground.
pub(crate) const PLAYGROUND_BINARY: &str = "KEELSON_PLAYGROUND_BINARY";

/// Where systemd waits for `READY=1`.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
