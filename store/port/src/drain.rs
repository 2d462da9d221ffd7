//! How long requests - watches, health watches, long polls - hear that the server is going down.
//!
//! A graceful shutdown waits for requests in flight; a watch would hold it up until the bound.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bell::{Bell, Ends, Over};

/// Held by whoever decides; dropping it begins the drain too.
#[derive(Debug)]
pub struct DrainTrigger(Arc<Shared>);

/// Held by requests that would otherwise never end. The default never begins.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    begun: AtomicBool,
    bell: Bell,
}

impl Ends for Shared {
    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn is_over(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Drain {
    /// The two ends.
    pub fn channel() -> (DrainTrigger, Drain) {
        let shared = Arc::<Shared>::default();
        (DrainTrigger(Arc::clone(&shared)), Drain(shared))
    }

    /// Returns once the server has begun to go down.
    pub fn begun(self) -> impl Future<Output = ()> + Send + Unpin {
        Over::of(self.0)
    }
}

impl DrainTrigger {
    /// Tells everyone.
    pub fn begin(&self) {
        self.0.begun.store(true, Ordering::SeqCst);
        self.0.bell.ring();
    }
}

impl Drop for DrainTrigger {
    fn drop(&mut self) {
        self.begin();
    }
}
