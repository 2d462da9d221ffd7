//! The events of a watch, from one member after the other.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::StatusCode;
use keelson_port::Cut;
use serde::Deserialize;
use tracing::debug;

use super::WatchRequest;
use super::resume::Position;
use crate::context::Context;
use crate::http1::body::MemberBody;
use crate::http1::client::Head;
use crate::policy::attempts::Attempts;
use crate::policy::forward;
use crate::sockets::WatchPermit;

/// The part of an event that has arrived. A larger event is passed on in parts, and its answer is
/// cut when its member fails.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An answer whose events are still to come.
pub(crate) struct WatchStream {
    context: Arc<Context>,
    watch: WatchRequest,
    /// The member's answer; `None` after its end.
    body: Option<MemberBody>,
    /// What has arrived of the next event.
    event: BytesMut,
    /// Part of that has been passed on.
    torn: bool,
    position: Position,
    _permit: Option<Box<WatchPermit>>,
}

impl WatchStream {
    pub(super) fn new(
        context: &Arc<Context>,
        mut watch: WatchRequest,
        body: MemberBody,
        head: &Head,
        permit: Option<Box<WatchPermit>>,
    ) -> WatchStream {
        let position = Position::of(head);
        if watch.since == 0 && head.index.is_some() {
            watch.since = position.index.saturating_add(1);
        }
        WatchStream {
            context: Arc::clone(context),
            watch,
            body: Some(body),
            event: BytesMut::new(),
            torn: false,
            position,
            _permit: permit,
        }
    }

    /// The events as they come; `Cut` breaks the answer off.
    pub(crate) fn into_stream(self: Box<WatchStream>) -> impl Stream<Item = Result<Bytes, Cut>> {
        stream::unfold(self, |mut events| async {
            let event = events.next().await?;
            Some((event, events))
        })
    }

    /// The next part to send; `None` ends the answer.
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        loop {
            let body = self.body.as_mut()?;
            let endpoint = body.endpoint();
            let part = tokio::select! {
                biased;
                part = std::future::poll_fn(|cx| body.poll_part(cx)) => part.ok(),
                () = async {
                    match &endpoint {
                        Some(endpoint) => endpoint.lost().await,
                        None => std::future::pending().await,
                    }
                } => None,
            };
            match part {
                Some(Some(part)) => {
                    if let Some(ready) = self.receive(&part) {
                        return Some(Ok(ready));
                    }
                }
                // The member has ended its answer, and a stream ends with it.
                Some(None) => {
                    self.body = None;
                    self.context
                        .high_water_mark
                        .observe(last_index(&self.event));
                    let event = self.event.split().freeze();
                    return (!event.is_empty()).then_some(Ok(event));
                }
                None if self.torn || self.watch.since == 0 => return Some(Err(Cut)),
                None => {
                    self.event.clear();
                    // There may be no other free socket: the next member's takes this one's place.
                    self.body = None;
                    // Boxed: it would take memory in every watch.
                    self.body = Box::pin(self.resume()).await;
                    if self.body.is_none() {
                        return Some(Err(Cut));
                    }
                }
            }
        }
    }

    /// Takes a part of the answer; returns the events that are complete.
    fn receive(&mut self, part: &[u8]) -> Option<Bytes> {
        self.event.extend_from_slice(part);
        self.position.has_events |= !part.is_empty();
        let complete = match self.watch.stream {
            true => self.event.iter().rposition(|byte| *byte == b'\n'),
            false => None,
        };
        if let Some(end) = complete {
            let events = self.event.split_to(end + 1).freeze();
            if self.event.is_empty() {
                self.event = BytesMut::new();
            }
            self.torn = false;
            if let Some(index) = last_index(&events) {
                self.watch.since = index.saturating_add(1);
                self.position.index = self.position.index.max(index);
                // A read after this event must show it, also at another member (read-your-writes).
                self.context.high_water_mark.observe(Some(index));
            }
            return Some(events);
        }
        if EVENT_BYTES_MAX < self.event.len() {
            self.torn = true;
            return Some(self.event.split().freeze());
        }
        None
    }

    /// Sends the watch to another member, however long it takes to find one. `None`: that member
    /// cannot continue it, so the answer is cut.
    async fn resume(&mut self) -> Option<MemberBody> {
        self.watch.since = self.position.resumes_at(self.watch.since);
        debug!(
            since = self.watch.since,
            "a watch resumes at another member"
        );
        let mut request = self.watch.resumed();
        let mut attempts = Attempts::of_watch(&self.context);
        let reply = forward::send(&mut attempts, &mut request).await;
        let (head, body) = reply.ok()?.into_parts();
        let position = Position::of(&head);
        // An index of the earlier cluster may be years ahead.
        if self.position.is_other_cluster(&position) {
            return None;
        }
        self.position = position;
        // Other statuses: mostly the history no longer has the index. The client has a head with
        // 200, so it gets the error as the answer to its next request.
        (head.status == StatusCode::OK).then_some(body)
    }
}

/// The index of the last of these events, one a line.
pub(super) fn last_index(events: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Event {
        node: Node,
    }
    #[derive(Deserialize)]
    struct Node {
        #[serde(rename = "modifiedIndex")]
        modified_index: u64,
    }
    let mut lines = events.split(|byte| *byte == b'\n');
    let last = lines.rfind(|line| !line.is_empty())?;
    let event: Event = serde_json::from_slice(last).ok()?;
    Some(event.node.modified_index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_counts() {
        let events =
            b"{\"node\":{\"modifiedIndex\":4}}\n{\"action\":\"set\",\"node\":{\"key\":\"/a\",\
            \"modifiedIndex\":5},\"prevNode\":{\"modifiedIndex\":3}}\n";
        assert_eq!(last_index(events), Some(5));
        assert_eq!(last_index(b"\n"), None);
    }
}
