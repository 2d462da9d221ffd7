//! Holds the requests of a client port until its member is ready.
//!
//! Clients connect at once and wait, as with etcd, so that a script that starts a member need not
//! retry. A probe is not held: its answer is the member's present state. While the member opens
//! its data, connections wait in the socket's accept queue.
//!
//! `/version` is held as well: a proxy takes its answer as a sign that the member serves reads.
//! Without that, a third of a proxy's reads were held at a starting member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use keelson_port::{Drain, Terminates, Termination, WakerSet};

/// The paths that are answered before: they depend on the member alone.
const PROBES: [&str; 5] = ["/health", "/livez", "/readyz", "/metrics", "/debug/vars"];

/// A gate that is closed until the member is ready. Clones share the gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: AtomicBool,
    wakers: WakerSet,
}

impl Terminates for GateState {
    fn wakers(&self) -> &WakerSet {
        &self.wakers
    }

    fn is_terminated(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

impl Gate {
    /// Opens the gate for good.
    pub fn open(&self) {
        self.0.open.store(true, Ordering::Release);
        self.0.wakers.wake_all();
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_terminated()
    }

    /// The number of held requests.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.0.wakers.waiters()
    }

    /// Waits until the gate opens. `false` if the port shuts down first.
    pub(super) fn opened(&self, drain: Drain) -> impl Future<Output = bool> + Send + use<> {
        let opening = Termination::of(Arc::clone(&self.0));
        async move {
            tokio::select! {
                () = opening => true,
                () = drain.begun() => false,
            }
        }
    }
}

/// Whether a path belongs to a probe: `/readyz`, and `/readyz/linearizable_read`.
pub(super) fn is_probe(path: &str) -> bool {
    let mut probes = PROBES.iter();
    probes.any(|probe| {
        let below = path.strip_prefix(probe);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    })
}

/// 503: the port shuts down, and the request had no effect.
pub(super) fn closed() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_the_health_paths_and_not_the_version() {
        for path in ["/health", "/livez", "/readyz/non_learner", "/debug/vars"] {
            assert!(is_probe(path), "{path}");
        }
        for path in ["/version", "/v2/keys/health", "/healthy", "/"] {
            assert!(!is_probe(path), "{path}");
        }
    }
}
