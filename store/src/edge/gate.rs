//! A client port before its member is ready.
//!
//! Clients connect at once and wait, as with etcd, so that a script that starts a member need not try
//! again. A probe must not wait: it is answered by what the member is at that moment. Only what comes
//! while the member opens its data waits in the socket's queue, since there is nothing yet to serve it.
//!
//! `/version` waits as well. A proxy takes its answer for the word of a member that serves reads; one
//! from a member that holds them made a third of a proxy's reads wait there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use keelson_port::{Drain, Terminates, Termination, WakerSet};

/// What is answered before: of the member alone.
const PROBES: [&str; 4] = ["/health", "/livez", "/readyz", "/debug/vars"];

/// Closed until the member is ready. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Door>);

#[derive(Debug, Default)]
struct Door {
    open: AtomicBool,
    wakers: WakerSet,
}

impl Terminates for Door {
    fn wakers(&self) -> &WakerSet {
        &self.wakers
    }

    fn is_terminated(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

impl Gate {
    /// Opens it for good.
    pub fn open(&self) {
        self.0.open.store(true, Ordering::Release);
        self.0.wakers.wake_all();
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_terminated()
    }

    /// How many requests wait for it.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.0.wakers.waiters()
    }

    /// Waits for it. `false`: the port went down before.
    pub(super) fn opened(&self, drain: Drain) -> impl Future<Output = bool> + Send + use<> {
        let door = Termination::of(Arc::clone(&self.0));
        async move {
            tokio::select! {
                () = door => true,
                () = drain.begun() => false,
            }
        }
    }
}

/// Whether a path is asked by probes: `/readyz`, and `/readyz/linearizable_read`.
pub(super) fn is_probe(path: &str) -> bool {
    let mut probes = PROBES.iter();
    probes.any(|probe| {
        let below = path.strip_prefix(probe);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    })
}

/// 503: the port goes down, and nothing was done.
pub(super) fn closed() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_health_and_its_kin_and_not_the_version() {
        for path in ["/health", "/livez", "/readyz/non_learner", "/debug/vars"] {
            assert!(is_probe(path), "{path}");
        }
        for path in ["/version", "/v2/keys/health", "/healthy", "/"] {
            assert!(!is_probe(path), "{path}");
        }
    }
}
