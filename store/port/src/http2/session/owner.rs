//! What an application attaches to a stream.

use tokio::time::Instant;

/// The owner of a stream. A session stores one for each stream and returns it with each event.
pub trait Owner: Clone {
    /// Data that had to wait has been sent: its producer may give as many bytes again.
    fn sent(&self, bytes: usize);

    /// The account that is charged for small frames. Streams of one client share an account.
    fn account(&self) -> usize {
        0
    }

    /// The account uses half of its part of the budget for small frames, or more.
    fn uses_much(&self) {}

    /// The time at which the stream expires. `half_closed_remote`: its request has ended.
    fn deadline(&self, _half_closed_remote: bool) -> Option<Instant> {
        None
    }
}
