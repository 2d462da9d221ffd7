//! Fuzz targets as plain functions: each asserts a property, not only that nothing panics.
//!
//! `cargo test -p keelson-fuzz` replays the corpora and a bounded number of mutations of them on
//! any toolchain. `cargo fuzz run <target>`, with a nightly one, explores for as long as it is let;
//! the front ends are in `fuzz_targets/`.

pub mod answer_head;
pub mod bolt;
pub mod certificates;
pub mod command;
pub mod config;
pub mod discovery;
pub mod discovery_url;
pub mod fast_path;
pub mod hpack;
pub mod http2;
pub mod mended;
pub mod peer;
pub mod request;
pub mod revocations;
pub mod streams;
pub mod tokens;
pub mod wal;

/// A target: takes any bytes, panics if the property does not hold.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 17] = [
    ("answer_head", answer_head::run),
    ("bolt", bolt::run),
    ("certificates", certificates::run),
    ("command", command::run),
    ("config", config::run),
    ("discovery", discovery::run),
    ("discovery_url", discovery_url::run),
    ("fast_path", fast_path::run),
    ("hpack", hpack::run),
    ("http2", http2::run),
    ("mended", mended::run),
    ("peer", peer::run),
    ("request", request::run),
    ("revocations", revocations::run),
    ("streams", streams::run),
    ("tokens", tokens::run),
    ("wal", wal::run),
];
