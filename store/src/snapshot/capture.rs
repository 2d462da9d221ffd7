//! Captures of the state for operators: the worker makes one between two entries.

use keelson_core::state::Capture;
use tokio::sync::oneshot;

use crate::member::worker::WorkerEvent;
use crate::{Error, Store};

impl Store {
    /// Captures the applied state. While the capture exists, compactions delete no rows.
    pub(super) async fn capture(&self) -> Result<Capture, Error> {
        let (waiter, capture) = oneshot::channel();
        let _ = self.inner.executor.send(WorkerEvent::Capture(waiter));
        capture.await.map_err(|_| Error::Stopped)
    }
}
