//! The changes of keys, one after another, for the services that wait for one.

use std::sync::Arc;
use std::task::Poll;
use std::vec;

use bytes::Bytes;
use futures_util::future::poll_fn;
use futures_util::task::AtomicWaker;
use keelson_core::watch::{SentEvent, WatchContent, WatchMessage, WatchStream};
use keelson_proto::etcdserverpb::WatchCreateRequest;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::mvccpb::KeyValue;

use crate::Error;
use crate::backend::Backend;

/// The keys, from a revision on.
pub(super) struct Changes {
    stream: WatchStream,
    waker: Arc<AtomicWaker>,
    events: vec::IntoIter<SentEvent>,
    /// The revision in the header of the events.
    revision: i64,
}

/// What comes next.
pub(super) enum Change {
    /// A pair was put; the revision is that of the message's header.
    Put(KeyValue, i64),
    /// A key was deleted.
    Deleted,
    /// The next changes have been compacted: the keys must be read again.
    Compacted,
}

impl Changes {
    /// No keys yet.
    pub(super) fn new<B: Backend>(backend: &B) -> Changes {
        let waker = Arc::new(AtomicWaker::new());
        let woken = Arc::clone(&waker);
        Changes {
            stream: backend.watch(move || woken.wake()),
            waker,
            events: Vec::new().into_iter(),
            revision: 0,
        }
    }

    /// The puts and deletions of a key.
    pub(super) fn of_key(mut self, key: Bytes, from: i64) -> Changes {
        self.stream.create(WatchCreateRequest {
            key,
            start_revision: from,
            ..WatchCreateRequest::default()
        });
        self
    }

    /// What that watch is sent.
    pub(super) fn of(mut self, watch: WatchCreateRequest) -> Changes {
        self.stream.create(watch);
        self
    }

    /// The puts of all keys of a range.
    pub(super) fn of_puts(mut self, key: Bytes, range_end: Bytes, from: i64) -> Changes {
        self.stream.create(WatchCreateRequest {
            key,
            range_end,
            start_revision: from,
            filters: vec![FilterType::Nodelete.into()],
            ..WatchCreateRequest::default()
        });
        self
    }

    /// The next change. A dropped future loses none.
    ///
    /// # Errors
    /// The watch was refused, or the member must stop.
    pub(super) async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(event) = self.events.next() {
                return Ok(match event.message().kv {
                    Some(kv) if !event.event().is_delete => Change::Put(kv, self.revision),
                    _ => Change::Deleted,
                });
            }
            let message = self.message().await?;
            match message.content {
                WatchContent::Events { events, .. } => {
                    self.events = events.into_iter();
                    self.revision = message.revision;
                }
                WatchContent::Compacted(_) => return Ok(Change::Compacted),
                WatchContent::Refused(reason) => return Err(Error::Internal(reason.to_owned())),
                WatchContent::Denied(error) => return Err(error.into()),
                WatchContent::Created | WatchContent::Cancelled | WatchContent::Progress => {}
            }
        }
    }

    async fn message(&mut self) -> Result<WatchMessage, Error> {
        poll_fn(|cx| {
            // Before the stream is read, so that no wake-up is lost.
            self.waker.register(cx.waker());
            match self.stream.next() {
                Ok(Some(message)) => Poll::Ready(Ok(message)),
                Ok(None) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            }
        })
        .await
    }
}
