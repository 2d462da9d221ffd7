//! The signal that ends long requests (watches, health watches, long polls) at a graceful shutdown.
//!
//! A graceful shutdown waits for requests in flight; a watch would delay it until the bound.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use crate::waker_set::{Terminates, Termination, WakerSet};

/// The sending half. Dropping it begins the drain as well.
#[derive(Debug)]
pub struct DrainTrigger(Arc<DrainState>);

/// The receiving half, held by requests that would otherwise never end. The default never begins.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<DrainState>);

#[derive(Debug, Default)]
struct DrainState {
    begun: AtomicBool,
    wakers: WakerSet,
}

impl Terminates for DrainState {
    fn wakers(&self) -> &WakerSet {
        &self.wakers
    }

    fn is_terminated(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Drain {
    /// Creates the two halves.
    pub fn channel() -> (DrainTrigger, Drain) {
        let shared = Arc::<DrainState>::default();
        (DrainTrigger(Arc::clone(&shared)), Drain(shared))
    }

    /// A future that is ready once the drain has begun.
    pub fn begun(self) -> Begun {
        Begun(Termination::of(self.0))
    }
}

/// Ready once the drain has begun.
#[derive(Debug)]
pub struct Begun(Termination<Arc<DrainState>>);

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl DrainTrigger {
    /// Begins the drain and wakes all requests that wait for it.
    pub fn begin(&self) {
        self.0.begun.store(true, Ordering::SeqCst);
        self.0.wakers.wake_all();
    }
}

impl Drop for DrainTrigger {
    fn drop(&mut self) {
        self.begin();
    }
}
