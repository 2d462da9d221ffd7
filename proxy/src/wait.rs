//! Waits of the v2 API: long polls and streams, which outlive the member they were sent to.
//!
//! A wait is forwarded as any read. Once a member has begun to answer and has nothing to tell, the
//! answer is parked: a socket to the client, a socket to the member, and no buffers. When the
//! member goes, the wait is sent to another, from the index that it had reached; the client, which
//! has its head already, sees nothing of it. Unless the other one is of a cluster that was set up since,
//! or has no more of the history: then the answer is cut, as at the end of the proxy, and the client
//! connects and asks again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future, stream};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use keelson_port::{Cut, Parked, Parking};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::debug;
use url::form_urlencoded;

use crate::answers::Refusal;
use crate::body::{AnswerBody, MemberBody};
use crate::client::Head;
use crate::exchange::{self, Reply};
use crate::http1;
use crate::proxy::Proxy;
use crate::request::{self, Origin, Outgoing, Subject};
use crate::sockets::WaitPlace;
use crate::turns::Turns;

/// Of an event that is still coming. A larger one is passed on in parts, and is then broken off
/// when its member dies.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

const X_ETCD_CLUSTER_ID: &str = "x-etcd-cluster-id";

/// A member that has an event in its history sends it with its head.
const HISTORY_SENT: Duration = Duration::from_secs(1);

/// What a member remembers.
const HISTORY_EVENTS: u64 = 1000;

/// A wait as it was asked, to be asked again; in as little room as possible.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// With the query.
    path: Box<str>,
    /// Its headers as they go to members.
    fields: Box<[u8]>,
    /// All events to come, not one.
    stream: bool,
    /// `waitIndex`, and later the index to go on from; 0 is from now on.
    since: u64,
}

impl Wait {
    /// `None`: it is no wait.
    pub(crate) fn of(parts: &Parts, origin: Origin<'_>) -> Option<Wait> {
        let keys = parts.method == Method::GET && request::is_keys(parts.uri.path());
        if !keys || !waits(parts.uri.query()?) {
            return None;
        }
        let path = request::path_of(parts);
        Some(Wait::new(path, &request::fields(parts, origin)))
    }

    /// Of a path and a query that say so, and headers as they go to members.
    pub(crate) fn new(path: &str, fields: &[u8]) -> Wait {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        Wait {
            path: Box::from(path),
            fields: Box::from(fields),
            stream: first(query, "stream").is_some_and(|value| is_true(&value)),
            since: first(query, "waitIndex").map_or(0, |value| value.parse().unwrap_or(0)),
        }
    }

    /// The same, from where it has come to.
    fn again(&self) -> Outgoing {
        Outgoing::get(&path_since(&self.path, self.since), &self.fields)
    }
}

fn path_since(path: &str, since: u64) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let others = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "waitIndex");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(others)
        .append_pair("waitIndex", &since.to_string())
        .finish();
    format!("{path}?{query}")
}

/// Whether a query asks to wait; it may begin with its question mark.
pub(crate) fn waits(query: &str) -> bool {
    let query = query.strip_prefix('?').unwrap_or(query);
    // Most queries are not even looked at closely.
    let may = query.contains("wait") || query.contains('%');
    may && first(query, "wait").is_some_and(|value| is_true(&value))
}

/// Only the first value of a name counts.
fn first(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(found, _)| found == name)?;
    Some(value.into_owned())
}

/// Go's `ParseBool`.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// Forwards a wait. What is answered at once is answered as everything else is. `client`: it came over
/// HTTP/2, where a connection may carry any number of them.
pub(crate) async fn forward(
    proxy: &Arc<Proxy>,
    wait: Wait,
    parking: Option<Parking>,
    client: Option<SocketAddr>,
) -> Result<Response<AnswerBody>, Refusal> {
    let place = match client {
        Some(client) => {
            let place = proxy.waits.begin(client).ok_or(Refusal::Crowded)?;
            Some(Box::new(place))
        }
        None => None,
    };
    let mut outgoing = Outgoing::get(&wait.path, &wait.fields);
    let mut turns = Turns::of_request(proxy, true);
    http1::follow_change(&mut turns, proxy);
    let known = proxy.newest.known();
    let reply = forward_long(&mut turns, proxy, &mut outgoing).await?;
    let (mut head, mut body) = begun(reply)?;
    // From now on: what the client has just written is no news to it.
    if wait.since == 0
        && is_old(proxy, known, &head, &body)
        && let Some(newer) = Box::pin(of_leader(proxy, &mut outgoing, &head)).await
    {
        (head, body) = newer;
    }
    drop(outgoing);
    let body = match body {
        AnswerBody::Member(body) if head.status == StatusCode::OK => body,
        AnswerBody::Whole(event) => {
            proxy.newest.told(last_index(&event));
            return Ok(exchange::response(head, AnswerBody::Whole(event)));
        }
        body => return Ok(exchange::response(head, body)),
    };
    let mut waiting = Waiting::new(proxy, wait, body, &head);
    waiting.place = place;
    let events = stream::unfold(Box::new(waiting), |mut waiting| async {
        let event = waiting.next().await?;
        Some((event, waiting))
    });
    let head = parked_head(head);
    match parking {
        Some(parking) => parking.park(Parked::new(&head, events)).await,
        None => {
            let cut = stream::once(proxy.drain.clone().begun()).map(|()| Some(Err(Cut)));
            let events = events.map(Some).chain(stream::iter([None]));
            let parts = stream::select(events, cut);
            let parts = parts.scan((), |(), part| future::ready(part));
            Ok(head.map(|()| AnswerBody::Parts(Box::pin(parts))))
        }
    }
}

fn begun(reply: Reply) -> Result<(Head, AnswerBody), Refusal> {
    let (head, body) = reply.into_parts();
    let body = body.whole().map_err(|_| Refusal::NoAnswer)?;
    Ok((head, body))
}

/// Whether a member waits for what clients of this proxy have been told, or tells it.
fn is_old(proxy: &Proxy, known: u64, head: &Head, body: &AnswerBody) -> bool {
    let told = match body {
        AnswerBody::Whole(event) => last_index(event),
        _ => None,
    };
    told <= Some(known) && proxy.newest.behind(known, head.read_at()).is_some()
}

/// The leader's answer to a wait, if that is another member and knows more than who has answered it.
async fn of_leader(
    proxy: &Proxy,
    outgoing: &mut Outgoing,
    held: &Head,
) -> Option<(Head, AnswerBody)> {
    let mut turns = Turns::of_request(proxy, false);
    turns.begin_with(proxy.endpoints.leader.get()?);
    let reply = forward_long(&mut turns, proxy, outgoing).await.ok()?;
    let (head, body) = begun(reply).ok()?;
    let is_newer = head.status == StatusCode::OK && held.read_at() < head.read_at();
    is_newer.then_some((head, body))
}

/// The port writes how the body is framed, and when.
fn parked_head(head: Head) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers();
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    response.headers_mut().remove(http::header::DATE);
    response
}

async fn forward_long(
    turns: &mut Turns<'_>,
    proxy: &Proxy,
    outgoing: &mut Outgoing,
) -> Result<Reply, Refusal> {
    // Its head may take as long as its event: etcd's own proxy does not send it before.
    outgoing.subject = Subject::Other;
    http1::forward_in(turns, proxy, outgoing).await
}

/// An answer that waits.
struct Waiting {
    proxy: Arc<Proxy>,
    wait: Wait,
    /// The member's answer; gone with its end.
    body: Option<MemberBody>,
    /// What has come of the next event.
    event: BytesMut,
    /// Part of that has been passed on.
    broken: bool,
    begun: Begun,
    place: Option<Box<WaitPlace>>,
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
    /// client asks again, and nothing is lost.
    fn is_other_than(&self, next: &Begun) -> bool {
        let named = self.cluster != 0 && next.cluster != 0;
        let renamed = named && self.cluster != next.cluster;
        renamed || next.index.saturating_add(HISTORY_EVENTS) < self.index
    }
}

impl Waiting {
    fn new(proxy: &Arc<Proxy>, mut wait: Wait, body: MemberBody, head: &Head) -> Waiting {
        let begun = Begun::now(head);
        if wait.since == 0 && head.index.is_some() {
            wait.since = begun.index.saturating_add(1);
        }
        Waiting {
            proxy: Arc::clone(proxy),
            wait,
            body: Some(body),
            event: BytesMut::new(),
            broken: false,
            begun,
            place: None,
        }
    }

    /// What to send next; `None` ends the answer, `Cut` breaks it off.
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
                    if let Some(ready) = self.arrived(&part) {
                        return Some(Ok(ready));
                    }
                }
                // The member has said all, and a stream ends with it.
                Some(None) => {
                    self.body = None;
                    self.proxy.newest.told(last_index(&self.event));
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
                // Whoever hears of it and then reads must find it, and that may be elsewhere.
                self.proxy.newest.told(Some(index));
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
        let mut turns = Turns::of_watch(&self.proxy);
        let reply = forward_long(&mut turns, &self.proxy, &mut outgoing).await;
        let (head, body) = reply.ok()?.into_parts();
        let begun = Begun::now(&head);
        if self.begun.is_other_than(&begun) {
            // An index of the old one may be years ahead. The client finds its answer cut, as if its
            // member had gone, and asks again.
            return None;
        }
        self.begun = begun;
        // Otherwise the index is no longer in the history, most likely. The client has its 200
        // already: the answer is cut, it asks again, and gets the error.
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
fn last_index(events: &[u8]) -> Option<u64> {
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
    use http::Request;

    use super::*;

    fn parts(uri: &str) -> Parts {
        Request::get(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn waits_are_recognised() {
        let cases = [
            ("/v2/keys/a?wait=true", Some((false, 0))),
            ("/v2/keys/a?waitIndex=7&wait=1", Some((false, 7))),
            ("/v2/keys/a?stream=true&wait=T", Some((true, 0))),
            ("/v2/keys/a?wait=false&wait=true", None),
            ("/v2/keys/a", None),
            ("/v2/members?wait=true", None),
        ];
        let id = http::HeaderValue::from_static("mine");
        let client = "10.0.0.8:1".parse().unwrap();
        for (uri, expected) in cases {
            let wait = Wait::of(&parts(uri), Origin { client, id: &id });
            let found = wait.map(|wait| (wait.stream, wait.since));
            assert_eq!(found, expected, "{uri}");
        }
    }

    #[test]
    fn the_index_is_replaced_and_the_rest_stays() {
        let path = "/v2/keys/a%20b?wait=true&waitIndex=7&recursive=true";
        let expected = "/v2/keys/a%20b?wait=true&recursive=true&waitIndex=9";
        assert_eq!(path_since(path, 9), expected);
    }

    #[test]
    fn the_last_event_counts() {
        let events =
            b"{\"node\":{\"modifiedIndex\":4}}\n{\"action\":\"set\",\"node\":{\"key\":\"/a\",\
            \"modifiedIndex\":5},\"prevNode\":{\"modifiedIndex\":3}}\n";
        assert_eq!(last_index(events), Some(5));
        assert_eq!(last_index(b"\n"), None);
    }
}
