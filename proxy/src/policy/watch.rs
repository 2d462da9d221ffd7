//! Waits of the v2 API: long polls and streams, which outlive the member they were sent to.
//!
//! A wait is forwarded as any read. Once a member has begun to answer and has nothing to tell, the
//! answer is parked: a socket to the client, a socket to the member, and no buffers. When the
//! member goes, the wait is sent to another, from the index that it had reached; the client, which
//! has its head already, sees nothing of it. Unless the other one is of a cluster that was set up since,
//! or has no more of the history: then the answer is cut, as at the end of the proxy, and the client
//! connects and asks again.

mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{StreamExt, future, stream as streams};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use keelson_port::{Cut, Parked, Parking};
use url::form_urlencoded;

use self::stream::{WatchStream, last_index};
use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::http1::client::Head;
use crate::http1::exchange::{self, Reply};
use crate::http1::request::{self, Origin, Subject, UpstreamRequest};
use crate::policy::attempts::Attempts;
use crate::policy::forward;

/// A wait as it was asked, to be asked again; in as little room as possible.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WatchRequest {
    /// With the query.
    path: Box<str>,
    /// Its headers as they go to members.
    fields: Box<[u8]>,
    /// All events to come, not one.
    stream: bool,
    /// `waitIndex`, and later the index to go on from; 0 is from now on.
    since: u64,
}

impl WatchRequest {
    /// `None`: it is no wait.
    pub(crate) fn of(parts: &Parts, origin: Origin<'_>) -> Option<WatchRequest> {
        let keys = parts.method == Method::GET && request::is_keys(parts.uri.path());
        if !keys || !waits(parts.uri.query()?) {
            return None;
        }
        let path = request::path_of(parts);
        Some(WatchRequest::new(path, &request::fields(parts, origin)))
    }

    /// Of a path and a query that say so, and headers as they go to members.
    pub(crate) fn new(path: &str, fields: &[u8]) -> WatchRequest {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        WatchRequest {
            path: Box::from(path),
            fields: Box::from(fields),
            stream: first(query, "stream").is_some_and(|value| is_true(&value)),
            since: first(query, "waitIndex").map_or(0, |value| value.parse().unwrap_or(0)),
        }
    }

    /// The same, from where it has come to.
    fn again(&self) -> UpstreamRequest {
        UpstreamRequest::get(&path_since(&self.path, self.since), &self.fields)
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
    context: &Arc<Context>,
    wait: WatchRequest,
    parking: Option<Parking>,
    client: Option<SocketAddr>,
) -> Result<Response<AnswerBody>, Refusal> {
    let place = match client {
        Some(client) => {
            let place = context.waits.begin(client).ok_or(Refusal::Crowded)?;
            Some(Box::new(place))
        }
        None => None,
    };
    let mut outgoing = UpstreamRequest::get(&wait.path, &wait.fields);
    let mut attempts = Attempts::of_request(context, true);
    forward::follow_change(&mut attempts, context);
    let known = context.high_water_mark.current();
    let reply = forward_long(&mut attempts, context, &mut outgoing).await?;
    let (mut head, mut body) = begun(reply)?;
    // From now on: what the client has just written is no news to it.
    if wait.since == 0
        && is_old(context, known, &head, &body)
        && let Some(newer) = Box::pin(of_leader(context, &mut outgoing, &head)).await
    {
        (head, body) = newer;
    }
    drop(outgoing);
    let body = match body {
        AnswerBody::Member(body) if head.status == StatusCode::OK => body,
        AnswerBody::Whole(event) => {
            context.high_water_mark.observe(last_index(&event));
            return Ok(exchange::response(head, AnswerBody::Whole(event)));
        }
        body => return Ok(exchange::response(head, body)),
    };
    let mut waiting = WatchStream::new(context, wait, body, &head);
    waiting.place = place;
    let events = streams::unfold(Box::new(waiting), |mut waiting| async {
        let event = waiting.next().await?;
        Some((event, waiting))
    });
    let head = parked_head(head);
    match parking {
        Some(parking) => parking.park(Parked::new(&head, events)).await,
        None => {
            let cut = streams::once(context.drain.clone().begun()).map(|()| Some(Err(Cut)));
            let events = events.map(Some).chain(streams::iter([None]));
            let parts = streams::select(events, cut);
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
fn is_old(context: &Context, known: u64, head: &Head, body: &AnswerBody) -> bool {
    let told = match body {
        AnswerBody::Whole(event) => last_index(event),
        _ => None,
    };
    told <= Some(known)
        && context
            .high_water_mark
            .stale_until(known, head.read_at())
            .is_some()
}

/// The leader's answer to a wait, if that is another member and knows more than who has answered it.
async fn of_leader(
    context: &Context,
    outgoing: &mut UpstreamRequest,
    held: &Head,
) -> Option<(Head, AnswerBody)> {
    let mut attempts = Attempts::of_request(context, false);
    attempts.try_first(context.endpoints.leader.get()?);
    let reply = forward_long(&mut attempts, context, outgoing).await.ok()?;
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
    attempts: &mut Attempts<'_>,
    context: &Context,
    outgoing: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    // Its head may take as long as its event: etcd's own proxy does not send it before.
    outgoing.subject = Subject::Other;
    forward::forward_in(attempts, context, outgoing).await
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
            let wait = WatchRequest::of(&parts(uri), Origin { client, id: &id });
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
}
