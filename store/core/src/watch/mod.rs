//! Watches of the v3 API: which events each watcher is sent, in which order, and what it is sent
//! when it is too slow.
//!
//! ```text
//!   rows ──> WatchHub::fan_out ──> mailbox of each stream ──> WatchStream::next
//!     └───────────────────────── history ───────────────────────────┘
//! ```
//!
//! * The rows of the state machine are the **log of events**: immutable, and in revision order. The
//!   applier does nothing for watches, so writers never wait for watchers.
//! * The **hub** follows the rows. Of each revision it makes the events once ([`RevisionEvents`])
//!   and finds the streams with a range that contains a key ([`RangeIndex`]). So the cost of an
//!   event is that of the ranges that match.
//! * A **mailbox** holds the revisions that a stream has not read, up to a limit in bytes. When it
//!   is full, its later revisions are dropped, and the stream reads them again from the history.
//! * A **stream** is one client's `Watch` call with any number of watchers. Each watcher has a
//!   cursor, the next revision that it needs. A watcher that is behind reads the history in steps
//!   of bounded size; a revision is sent whole.
//!
//! An event does not own the pair before it, which is sent with `prev_kv`: the hub keeps the latest
//! of these pairs (`pairs.rs`), so that all streams share one read.
//!
//! The cursor makes every hand-over exact: a revision below it is never sent again, and a watcher
//! leaves the history only at a revision from which the hub delivers all.
//!
//! A stream has a **caller**. A watcher is checked when it is created, and again after each change
//! of rights (`rights.rs`): an event is sent only to a caller that had the right to it when the
//! event was applied.
//!
//! Guarantees, as in etcd: ordered, unique, reliable, atomic, resumable, bookmarkable. A progress
//! message names a revision only after every event up to it has left the stream.

mod catch_up;
mod encode;
mod hub;
mod mailbox;
mod message;
mod pairs;
mod progress;
mod range_index;
mod revision;
mod rights;
mod sending;
mod stream;

pub use catch_up::HISTORY_STEP_BYTES;
pub use encode::{FrameBuffer, HeaderFields};
pub use hub::{WatchCounts, WatchHub, WatchLimits};
pub use mailbox::MailboxLimits;
pub use message::{SentEvent, WatchContent, WatchMessage};
pub use range_index::{RangeEnd, RangeIndex, WatchRange};
pub use revision::{RevisionEvents, WatchEvent};
pub use rights::denial;
pub use stream::WatchStream;
