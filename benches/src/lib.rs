//! Measurements: closed-loop loads that run our servers beside another's.
//!
//! `cluster` is the v3 API on whole clusters, `v2` the v2 API, `watchers` thousands of long polls,
//! `events` v3 watchers, `bulk` reads of all keys and the expiry of leases, `upkeep` snapshots and
//! compactions, `memory` what idle processes hold, `proxy` the proxies; each is a subcommand. They
//! share `server` (what runs), `http1` (the load over HTTP/1.1), `measure` (what it costs), `guard`
//! (what changed since an earlier build) and `draw`. The criterion benchmarks in `benches/benches`
//! stand alone, but for the `machine` that two of them share.

use std::future::Future;

use anyhow::{Result, bail};

pub mod auth;
pub mod bulk;
pub mod cluster;
pub mod disk;
pub mod draw;
pub mod events;
pub mod files;
pub mod guard;
pub mod histogram;
pub mod http1;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod niced;
pub mod progress;
pub mod proxy;
pub mod server;
pub mod spread;
pub mod table;
pub mod tally;
pub mod upkeep;
pub mod v2;
pub mod watchers;

/// Runs a measurement to its end, or until Ctrl-C. Dropping it ends its processes and removes their
/// data; load threads that were interrupted end with the process.
fn block_on<T>(measurement: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = measurement => outcome,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    });
    runtime.shutdown_background();
    outcome
}
