//! How long requests - watches, health watches, long polls - hear that the server is going down.
//!
//! A graceful shutdown waits for requests in flight; a watch would hold it up until the bound.

use tokio::sync::watch;

/// Held by whoever decides; dropping it begins the drain too.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<bool>);

/// Held by requests that would otherwise never end.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// The two ends.
    pub fn channel() -> (DrainTrigger, Drain) {
        let (tx, rx) = watch::channel(false);
        (DrainTrigger(tx), Drain(rx))
    }

    /// Returns once the server has begun to go down.
    pub async fn begun(mut self) {
        // An error is the trigger dropped: its owner is gone, and so are we.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

impl DrainTrigger {
    /// Tells everyone.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}
