//! Work on a thread of its own, which may have a lower scheduling priority: a client that stands
//! for one on another host takes no time then from the servers here.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::oneshot;

/// The highest niceness.
pub const NICENESS_MAX: i32 = 19;

/// Does the work on a new thread of that niceness; 0 leaves it as it is. The future that `make`
/// returns stays there.
///
/// # Errors
/// Those of the work; the system's.
pub async fn on_thread<T, F>(niceness: i32, make: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        // The measurement may have been interrupted.
        let _ = done.send(run(niceness, make));
    })?;
    result.await.map_err(|_| anyhow!("the work panicked"))?
}

fn run<T, F>(niceness: i32, make: impl FnOnce() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    lower(niceness)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(make());
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

#[cfg(target_os = "linux")]
fn lower(niceness: i32) -> Result<()> {
    if niceness == 0 {
        return Ok(());
    }
    // On Linux a niceness is a thread's own; none stands for the calling one.
    let set = rustix::process::setpriority_process(None, niceness.min(NICENESS_MAX));
    set.context("the niceness of a thread")
}

#[cfg(not(target_os = "linux"))]
fn lower(niceness: i32) -> Result<()> {
    anyhow::ensure!(
        niceness == 0,
        "only Linux has threads of their own niceness"
    );
    Ok(())
}
