//! Long polls and streams.
//!
//! An event in the history is answered like a read. A wait is parked: the head is sent at once,
//! and the connection keeps no buffers until the event arrives. Over HTTP/2 and HTTP/1.0, and
//! inside the process, the body is a stream instead.
//!
//! As in etcd, the stream of a client that is a hundred events behind ends with a complete answer.
//! When the member stops, it closes the connection in the middle of the answer, as etcd does.
//! Clients reconnect and continue from their index, while a complete answer without an event would
//! be an error for them.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, Stream, StreamExt};
use http::StatusCode;
use http::request::Parts;
use keelson_core::tree::Event;
use keelson_core::tree::watchers::WatchSpec;
use keelson_port::{Cut, Drain, Parkable, park};

use super::CROWDED;
use super::answer::Mark;
use super::backend::{TreeBackend, TreeWatch, WatchEnd};
use super::error::KeyError;
use super::key_request::Parameters;
use super::{Api, event};
use crate::large::LargeAnswers;

/// Answers with the first event, or with all events as they occur.
pub(super) fn answer<B: TreeBackend>(
    inner: &Api<B>,
    path: Bytes,
    parameters: &Parameters,
    parts: &Parts,
) -> Result<Response, KeyError> {
    let spec = WatchSpec {
        path,
        recursive: parameters.recursive,
        stream: parameters.stream,
        since: parameters.wait_index,
    };
    let mut watch = inner.backend.tree_watch(spec)?;
    let mark = Mark {
        index: watch.index(),
        raft: inner.backend.raft_mark(),
    };
    let first = watch.now();
    if let (Some(event), false) = (&first, parameters.stream) {
        let body = event::encoding(event, &inner.events).ok_or(CROWDED)?;
        return Ok(inner.answers.key(StatusCode::OK, mark, body));
    }
    let events = events(watch, first, parameters.stream, inner.events.clone());
    let mut head = http::Response::new(());
    *head.headers_mut() = inner.answers.key_headers(mark);
    Ok(match parts.extensions.get::<Parkable>() {
        Some(Parkable) => park(head.map(|()| Body::empty()), events),
        None => head.map(|()| streamed(events, inner.drain.clone())),
    })
}

/// The encoded events, each with a line feed. If one has no room the answer is cut there, and its
/// client watches again from that index.
fn events(
    watch: impl TreeWatch,
    first: Option<Arc<Event>>,
    all: bool,
    room: LargeAnswers,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send + 'static {
    let encode = move |event: &Arc<Event>| event::encoding(event, &room).ok_or(Cut);
    let first = stream::iter(first.map(|event| encode(&event)));
    let next = stream::unfold(Some((watch, encode)), |watched| async move {
        let (mut watch, encode) = watched?;
        match watch.next().await {
            Some(event) => match encode(&event) {
                Ok(encoded) => Some((Ok(encoded), Some((watch, encode)))),
                Err(cut) => Some((Err(cut), None)),
            },
            None if watch.end() == Some(WatchEnd::Cut) => Some((Err(Cut), None)),
            None => None,
        }
    });
    // A long poll has no first event here.
    first.chain(next).take(if all { usize::MAX } else { 1 })
}

/// A body that is cut when the port shuts down.
fn streamed(events: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static, drain: Drain) -> Body {
    let cut = stream::once(drain.begun()).map(|()| Some(Err(Cut)));
    let events = events.map(Some).chain(stream::iter([None]));
    let parts = stream::select(events, cut);
    Body::from_stream(parts.scan((), |(), part| future::ready(part)))
}
