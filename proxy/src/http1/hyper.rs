//! Requests that hyper has parsed: those that the fast path declines, and all over TLS.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use keelson_port::{Incoming as Body, Parkable};

use super::body::AnswerBody;
use super::request::Draft;
use super::request_head::Origin;
use crate::context::Context;
use crate::policy::answer::{Answer, Incoming, admit, answer};
use crate::policy::watch::WatchRequest;

/// An answer in progress.
pub(crate) type Answering =
    Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

/// Answers a request. Each future holds what its case needs and no more: there is one for every
/// request in flight.
pub(crate) fn serve(
    context: &Arc<Context>,
    request: Request<Body>,
    client: SocketAddr,
) -> Answering {
    let context = Arc::clone(context);
    let (mut parts, body) = request.into_parts();
    let record = match admit(&context, &parts) {
        Ok(record) => record,
        Err(answer) => return Box::pin(ready(Ok(*answer))),
    };
    let parkable = parts.extensions.remove::<Parkable>().is_some();
    let id = &context.id;
    let origin = Origin { client, id };
    if let Some(watch) = WatchRequest::of(&parts, origin) {
        return Box::pin(async move {
            let answer = answer(&context, record, Incoming::Watch(watch, None)).await;
            Ok(match answer {
                Answer::Watch(watch) if parkable => watch.into_parked_response(),
                answer => answer.into_response(&context),
            })
        });
    }
    let draft = Draft::new(&parts, body, origin);
    Box::pin(async move {
        Ok(match draft.complete().await {
            Ok(request) => {
                let answer = answer(&context, record, Incoming::Request(request)).await;
                answer.into_response(&context)
            }
            Err(incomplete) => record.refused(&context, incomplete.into()),
        })
    })
}
