//! Linearizable reads that arrive together share one question to the leader.
//!
//! A batch is open until the driver takes it: whoever joins before that is served by an index that
//! is taken after it joined, which is what makes the read linearizable.

use std::collections::HashMap;
use std::sync::Arc;

use keelson_core::node::Input;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::member::driver::Event;
use crate::member::turns::Turns;

#[derive(Default)]
struct Batches {
    /// The batch that may still be joined.
    open: Option<u64>,
    last: u64,
    readers: HashMap<u64, Vec<oneshot::Sender<()>>>,
}

/// The batches of a member.
pub(crate) struct ReadBatches {
    /// A plain mutex: nothing is awaited inside.
    batches: Mutex<Batches>,
    turns: Arc<Turns>,
}

impl ReadBatches {
    pub(crate) fn new(turns: Arc<Turns>) -> ReadBatches {
        ReadBatches {
            batches: Mutex::default(),
            turns,
        }
    }

    /// Joins the open batch, or opens one. The receiver hears when the state machine has applied
    /// what was committed when this was called; it hears an error if the member stops.
    pub(crate) fn join(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut batches = self.batches.lock();
        if let Some(open) = batches.open {
            batches.readers.entry(open).or_default().push(sender);
            return receiver;
        }
        batches.last += 1;
        let context = batches.last;
        batches.open = Some(context);
        batches.readers.insert(context, vec![sender]);
        drop(batches);
        let _ = self.turns.send(Event::Input(Input::Read { context }));
        receiver
    }

    /// The driver takes the batch: nobody joins it any more.
    pub(crate) fn close(&self, context: u64) {
        let mut batches = self.batches.lock();
        if batches.open == Some(context) {
            batches.open = None;
        }
    }

    /// The member stops: nobody will be answered any more.
    pub(crate) fn close_all(&self) {
        self.batches.lock().readers.clear();
    }

    /// The readers of a batch whose index is known.
    pub(crate) fn take(&self, context: u64) -> Vec<oneshot::Sender<()>> {
        self.batches
            .lock()
            .readers
            .remove(&context)
            .unwrap_or_default()
    }
}
