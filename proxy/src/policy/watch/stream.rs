//! An answer that waits: its events as they come, from one member after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use keelson_port::Cut;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::debug;

use super::{WatchRequest, forward_long};
use crate::context::Context;
use crate::http1::body::MemberBody;
use crate::http1::client::Head;
use crate::policy::attempts::Attempts;
use crate::sockets::WatchPermit;

/// Of an event that is still coming. A larger one is passed on in parts, and is then broken off
/// when its member dies.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

const X_ETCD_CLUSTER_ID: &str = "x-etcd-cluster-id";

/// A member that has an event in its history sends it with its head.
const HISTORY_SENT: Duration = Duration::from_secs(1);

/// Events that a member's history holds.
const HISTORY_EVENTS: u64 = 1000;

/// An answer that waits.
pub(super) struct WatchStream {
    context: Arc<Context>,
    wait: WatchRequest,
    /// The member's answer; gone with its end.
    body: Option<MemberBody>,
    /// What has come of the next event.
    event: BytesMut,
    /// Part of that has been passed on.
    broken: bool,
    begun: Begun,
    pub(super) place: Option<Box<WatchPermit>>,
}

/// What the member said at first, and when.
struct Begun {
    at: Instant,
    /// How far it was.
    index: u64,
    cluster: u64,
    /// Something has come after that.
    heard: bool,
}

impl Begun {
    fn now(head: &Head) -> Begun {
        Begun {
            at: Instant::now(),
            index: head.index.unwrap_or(0),
            cluster: cluster(head),
            heard: false,
        }
    }

    /// Whether `next` is of a cluster that was set up since. With the same URLs and the same token it has
    /// the same id, and only counts anew. A member that lags so far behind is taken for one as well: the
    /// client sends its request again, and nothing is lost.
    fn is_other_than(&self, next: &Begun) -> bool {
        let named = self.cluster != 0 && next.cluster != 0;
        let renamed = named && self.cluster != next.cluster;
        renamed || next.index.saturating_add(HISTORY_EVENTS) < self.index
    }
}

impl WatchStream {
    pub(super) fn new(
        context: &Arc<Context>,
        mut wait: WatchRequest,
        body: MemberBody,
        head: &Head,
    ) -> WatchStream {
        let begun = Begun::now(head);
        if wait.since == 0 && head.index.is_some() {
            wait.since = begun.index.saturating_add(1);
        }
        WatchStream {
            context: Arc::clone(context),
            wait,
            body: Some(body),
            event: BytesMut::new(),
            broken: false,
            begun,
            place: None,
        }
    }

    /// What to send next; `None` ends the answer, `Cut` breaks it off.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
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
                    if let Some(ready) = self.arrived(&part) {
                        return Some(Ok(ready));
                    }
                }
                // The member has said all, and a stream ends with it.
                Some(None) => {
                    self.body = None;
                    self.context
                        .high_water_mark
                        .observe(last_index(&self.event));
                    let event = self.event.split().freeze();
                    return (!event.is_empty()).then_some(Ok(event));
                }
                None if self.broken || self.wait.since == 0 => return Some(Err(Cut)),
                None => {
                    self.event.clear();
                    // Its socket may be the last that there may be: the next one takes its place.
                    self.body = None;
                    // In a box, so that it takes no room while nothing happens.
                    self.body = Box::pin(self.again()).await;
                    if self.body.is_none() {
                        return Some(Err(Cut));
                    }
                }
            }
        }
    }

    /// Takes a part; returns what is complete.
    fn arrived(&mut self, part: &[u8]) -> Option<Bytes> {
        self.event.extend_from_slice(part);
        self.begun.heard |= !part.is_empty();
        let complete = match self.wait.stream {
            true => self.event.iter().rposition(|byte| *byte == b'\n'),
            false => None,
        };
        if let Some(end) = complete {
            let events = self.event.split_to(end + 1).freeze();
            if self.event.is_empty() {
                self.event = BytesMut::new();
            }
            self.broken = false;
            if let Some(index) = last_index(&events) {
                self.wait.since = index.saturating_add(1);
                self.begun.index = self.begun.index.max(index);
                // A read after this event must show it, also at another member (read-your-writes).
                self.context.high_water_mark.observe(Some(index));
            }
            return Some(events);
        }
        if EVENT_BYTES_MAX < self.event.len() {
            self.broken = true;
            return Some(self.event.split().freeze());
        }
        None
    }

    /// Goes on at another member, however long it takes to find one.
    async fn again(&mut self) -> Option<MemberBody> {
        // Had the member had an event in its history, it would have begun to send it long ago, with its head;
        // so what happened up to its index is known not to matter, and may have left the history since.
        if !self.begun.heard && HISTORY_SENT < self.begun.at.elapsed() {
            self.wait.since = self.wait.since.max(self.begun.index.saturating_add(1));
        }
        debug!(since = self.wait.since, "a wait goes on at another member");
        let mut outgoing = self.wait.again();
        let mut attempts = Attempts::of_watch(&self.context);
        let reply = forward_long(&mut attempts, &self.context, &mut outgoing).await;
        let (head, body) = reply.ok()?.into_parts();
        let begun = Begun::now(&head);
        if self.begun.is_other_than(&begun) {
            // An index of the old one may be years ahead. The client finds its answer cut, as if its
            // member had gone, and sends its request again.
            return None;
        }
        self.begun = begun;
        // Otherwise the index is no longer in the history, most likely. The client has its 200
        // already: the answer is cut, and the error is the answer to its next request.
        (head.status == StatusCode::OK).then_some(body)
    }
}

/// Whose answer it is; 0 if it does not say.
fn cluster(head: &Head) -> u64 {
    let headers = head.headers();
    let id = headers
        .get(X_ETCD_CLUSTER_ID)
        .and_then(|id| id.to_str().ok());
    id.and_then(|id| u64::from_str_radix(id, 16).ok())
        .unwrap_or(0)
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
