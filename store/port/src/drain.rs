//! How long requests - watches, health watches, long polls - hear that the server is going down.
//!
//! A graceful shutdown waits for requests in flight; a watch would hold it up until the bound.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

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
    pub fn begun(self) -> Begun {
        Begun(Over::of(self.0))
    }
}

/// Ready once the server has begun to go down.
#[derive(Debug)]
pub struct Begun(Over<Arc<Shared>>);

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
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
