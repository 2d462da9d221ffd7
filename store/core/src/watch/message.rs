//! What a stream sends to its client.

use std::sync::Arc;

use keelson_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use keelson_proto::mvccpb::Event;

use super::pairs::Pair;
use super::{RevisionEvents, WatchEvent, denial};
use crate::state::Error;

/// The watch id of messages that concern no watcher, or the whole stream; etcd's `InvalidWatchID`.
pub(super) const NO_WATCH: i64 = -1;

/// A message: one `WatchResponse`.
#[derive(Clone, Debug)]
pub struct WatchMessage {
    /// The watcher.
    pub watch_id: i64,
    /// The revision for the header.
    pub revision: i64,
    /// The rest.
    pub content: WatchContent,
}

/// The content of a message.
#[derive(Clone, Debug)]
pub enum WatchContent {
    /// The watch has begun.
    Created,
    /// The watch could not begin, for this reason.
    Refused(&'static str),
    /// The client has cancelled the watch.
    Cancelled,
    /// The caller has lost the right to the watcher's range, by a change of rights.
    Denied(Error),
    /// The events that the watcher needs have been compacted, up to this revision.
    Compacted(i64),
    /// Every event up to the header's revision has been sent.
    Progress,
    /// Events, in order.
    Events {
        /// The events.
        events: Vec<SentEvent>,
        /// Whether further events of the same revision follow in the next message.
        fragment: bool,
    },
}

/// An event with what its watcher needs of it.
#[derive(Clone, Debug)]
pub struct SentEvent {
    pub(super) revision: Arc<RevisionEvents>,
    pub(super) at: usize,
    /// The pair before the change, if the watcher needs it and there was one.
    pub(super) previous: Option<Pair>,
}

impl SentEvent {
    /// The event.
    pub fn event(&self) -> &WatchEvent {
        &self.revision.events[self.at]
    }

    /// The revision of the change.
    pub fn revision(&self) -> i64 {
        self.revision.revision
    }

    /// The event as a message.
    pub fn message(&self) -> Event {
        self.event().message(self.previous.as_ref())
    }
}

impl WatchMessage {
    /// The same as a protobuf message. `header` has the member and its term; the revision is set
    /// here.
    pub fn response(&self, header: ResponseHeader) -> WatchResponse {
        let mut response = WatchResponse {
            header: Some(ResponseHeader {
                revision: self.revision,
                ..header
            }),
            watch_id: self.watch_id,
            ..WatchResponse::default()
        };
        match &self.content {
            WatchContent::Created => response.created = true,
            WatchContent::Refused(reason) => {
                response.created = true;
                response.canceled = true;
                response.cancel_reason = (*reason).into();
            }
            WatchContent::Cancelled => response.canceled = true,
            WatchContent::Denied(error) => {
                response.canceled = true;
                response.cancel_reason = denial(error).into();
            }
            WatchContent::Compacted(revision) => {
                response.canceled = true;
                response.compact_revision = *revision;
            }
            WatchContent::Progress => {}
            WatchContent::Events { events, fragment } => {
                response.fragment = *fragment;
                response.events = events.iter().map(SentEvent::message).collect();
            }
        }
        response
    }
}
