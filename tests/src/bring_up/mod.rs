//! Hosts that are given an environment and a discovery URL, and decide their roles by themselves.
//!
//! `proc` starts members with explicit roles; here no host has one. The same code starts an etcd.

mod host;
mod load;
mod notify;
mod platform;
mod service;

pub use host::{Host, Role};
pub use load::{Load, Seen};
pub use notify::Notified;
pub use platform::Platform;
pub use service::Service;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time limit for each step. Generous: eight hosts of a debug build on two cores.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(30);

/// Waits until `done` holds.
///
/// # Errors
/// It does not hold within the limit.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !done().await {
        if deadline < Instant::now() {
            bail!("never: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
