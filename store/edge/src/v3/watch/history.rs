//! The share of the room for answers of what a stream's watchers read of the history.
//!
//! New events are in memory once for all streams. A step through the history is the stream's own,
//! and a connection may have thousands of streams whose client reads nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;

use bytes::Bytes;
use keelson_core::watch::{HISTORY_STEP_BYTES, WatchStream};
use tokio::time::{Sleep, sleep};

use crate::account::client;
use crate::large::{RETRY, Room};
use crate::v3::Unread;

/// The share of a stream's present step.
pub(super) struct HistoryShare {
    unread: Unread,
    /// The client whose connection has the stream.
    client: Option<SocketAddr>,
    room: Option<Room>,
    /// The next attempt, while there is no room.
    retry: Option<Pin<Box<Sleep>>>,
}

impl HistoryShare {
    /// No share yet, for the client of the call that is being served.
    pub(super) fn new(unread: Unread) -> HistoryShare {
        HistoryShare {
            unread,
            client: client(),
            room: None,
            retry: None,
        }
    }

    /// Takes a share if the stream would read a step. Without room the stream reads none, and is
    /// polled again after a while.
    pub(super) fn admit(&mut self, stream: &mut WatchStream, cx: &mut Context<'_>) {
        self.retry = None;
        if self.room.is_none() && stream.is_behind() {
            self.room = self.unread.part(self.client, HISTORY_STEP_BYTES);
            if self.room.is_none() {
                let mut retry = Box::pin(sleep(RETRY));
                if retry.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                self.retry = Some(retry);
            }
        }
        stream.allow_history(self.room.is_some() || !stream.is_behind());
    }

    /// The same piece, which keeps the share until HTTP/2 has sent it.
    pub(super) fn hold(&self, piece: Bytes) -> Bytes {
        match &self.room {
            Some(room) => room.hold(piece),
            None => piece,
        }
    }

    /// Only the pieces have the messages of the step.
    pub(super) fn end_step(&mut self) {
        self.room = None;
    }
}
