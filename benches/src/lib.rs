//! Measurements: closed-loop loads that run our servers beside another's.
//!
//! `cluster` is the v3 API on whole clusters, `v2` the v2 API, `watchers` thousands of long polls,
//! `proxy` the proxies; each is a subcommand. They share `server` (what runs), `http1` (the load over
//! HTTP/1.1), `measure` (what it costs) and `draw`. The criterion benchmarks in `benches/benches`
//! stand alone, but for the `machine` that two of them share.

pub mod cluster;
pub mod draw;
pub mod histogram;
pub mod http1;
pub mod machine;
pub mod measure;
pub mod progress;
pub mod server;
pub mod tally;
