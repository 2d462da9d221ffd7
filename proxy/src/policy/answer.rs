//! The one way from a request to its answer, for all protocols.
//!
//! A codec parses a request, and `admit` checks its head. `answer` forwards it, or starts a watch,
//! and counts it. The codec then writes the answer in its protocol. The fast path skips `admit`:
//! it declines every request that might be refused.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, future, stream};
use http::Response;
use http::header::{CONTENT_LENGTH, DATE};
use http::request::Parts;
use keelson_port::{Cut, Parked, park};

use crate::answers::{self, Refusal};
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::http1::client::Head;
use crate::http1::exchange;
use crate::http1::request::UpstreamRequest;
use crate::http1::request_head;
use crate::metrics::RequestRecord;
use crate::own;
use crate::policy::forward;
use crate::policy::subject::Subject;
use crate::policy::watch::{self, Started, WatchRequest, WatchStream};
use crate::sockets::WatchPermit;

/// A request for a member.
pub(crate) enum Incoming {
    Request(UpstreamRequest),
    /// The permit is for watches over HTTP/2, of which one connection may carry any number.
    Watch(WatchRequest, Option<Box<WatchPermit>>),
}

/// An answer, whole or begun.
pub(crate) enum Answer {
    /// A member's.
    Member(Head, AnswerBody),
    /// This proxy's own.
    Own(Response<AnswerBody>),
    Watch(Box<Watch>),
}

/// A watch whose member has begun to answer, and has no event yet.
pub(crate) struct Watch {
    head: Head,
    events: Box<WatchStream>,
}

/// Decides by its head whether a request goes to a member. `Err` is the answer of one that does
/// not.
pub(crate) fn admit(
    context: &Context,
    parts: &Parts,
) -> Result<RequestRecord, Box<Response<AnswerBody>>> {
    if let Some(answer) = own::answer(context, &parts.method, parts.uri.path()) {
        return Err(Box::new(answer));
    }
    let subject = Subject::of(parts.uri.path());
    let record = RequestRecord::new(context, &parts.method, subject);
    if context.has_seen(&parts.headers) {
        return Err(Box::new(record.refused(context, Refusal::Loop)));
    }
    match request_head::is_too_large(parts) {
        true => Err(Box::new(answers::too_large())),
        false => Ok(record),
    }
}

/// Has a member answer.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn would keep its arguments twice, for every request in flight"
)]
pub(crate) fn answer(
    context: &Arc<Context>,
    record: RequestRecord,
    mut incoming: Incoming,
) -> impl Future<Output = Answer> + Send {
    async move {
        let started = match incoming {
            Incoming::Request(ref mut request) => forward::forward(context, request).await,
            // Boxed: otherwise it would enlarge the future of every request.
            Incoming::Watch(watch, permit) => {
                match Box::pin(watch::start(context, watch, permit)).await {
                    Ok((head, Started::Watching(events))) => {
                        record.handled(context, head.status);
                        return Answer::Watch(Box::new(Watch { head, events }));
                    }
                    Ok((head, Started::Answered(body))) => Ok((head, body)),
                    Err(refusal) => Err(refusal),
                }
            }
        };
        match started {
            Ok((head, body)) => {
                record.handled(context, head.status);
                Answer::Member(head, body)
            }
            Err(refusal) => Answer::Own(record.refused(context, refusal)),
        }
    }
}

impl Answer {
    /// The answer as a response. The events of a watch are cut when the proxy shuts down.
    pub(crate) fn into_response(self, context: &Context) -> Response<AnswerBody> {
        match self {
            Answer::Member(head, body) => exchange::response(head, body),
            Answer::Own(response) => response,
            Answer::Watch(watch) => watch.into_response(context),
        }
    }
}

impl Watch {
    /// The answer on the bare socket of a connection that can be parked. The port cuts it at
    /// shutdown.
    pub(crate) fn into_parked(self) -> Parked {
        Parked::new(&watch_head(self.head), self.events.into_stream())
    }

    /// As [`Watch::into_parked`], for a connection that hyper serves.
    pub(crate) fn into_parked_response(self) -> Response<AnswerBody> {
        let head = watch_head(self.head).map(|()| AnswerBody::Whole(Bytes::new()));
        park(head, self.events.into_stream())
    }

    fn into_response(self, context: &Context) -> Response<AnswerBody> {
        let cut = stream::once(context.drain.clone().begun()).map(|()| Some(Err(Cut)));
        let events = self
            .events
            .into_stream()
            .map(Some)
            .chain(stream::iter([None]));
        let parts = stream::select(events, cut);
        let parts = parts.scan((), |(), part| future::ready(part));
        watch_head(self.head).map(|()| AnswerBody::Parts(Box::pin(parts)))
    }
}

/// The port frames the body and sets the date.
fn watch_head(head: Head) -> Response<()> {
    let mut response = exchange::response(head, ());
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(DATE);
    response
}
