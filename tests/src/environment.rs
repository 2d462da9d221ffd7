//! The only reader of the environment in this crate: settings of a test run.

#![expect(
    clippy::disallowed_methods,
    reason = "the ban keeps libraries free of hidden settings; `cargo test` can pass no flags"
)]

/// The setting, if it is there: `KEELSON_BIN`, `KEELSON_OTHER_BIN`, `KEELSON_SOAK`,
/// `KEELSON_DIFF_SEED`, `KEELSON_DIFF_OPS`, `CI`, `CARGO`, `PATH`.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The setting as a number, if it is there and is one.
pub fn number(name: &str) -> Option<u64> {
    setting(name)?.parse().ok()
}

/// Variables that etcd and our binary read as flags: children must not inherit them.
pub fn server_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let others = ["DEIS_NUM_INSTANCES", "NOTIFY_SOCKET"];
    names
        .filter(|name| name.starts_with("ETCD") || others.contains(&name.as_str()))
        .collect()
}
