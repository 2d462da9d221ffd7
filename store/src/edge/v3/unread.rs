//! Answers that their clients do not read, in bounded bytes.
//!
//! A handler takes room for a large answer and leaves it among the answer's extensions; there the body
//! takes it up, and each of its pieces keeps it until HTTP/2 has sent the piece. A read whose answer
//! has no room is refused. What was changed is not: its answer waits a while, and is then unknown.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use prost::Message;
use tonic::body::Body;
use tonic::{Response, Status};

use crate::Error;
use crate::edge::large::{LARGE_BYTES, LargeAnswers, Room};

/// What the large answers of all clients may take together, in bytes; a connection's share is
/// `LargeAnswers`'s.
const UNREAD_BYTES_MAX: usize = 128 << 20;

/// The room for the answers of one member. A clone is the same room.
#[derive(Clone)]
pub struct Unread(LargeAnswers);

impl Default for Unread {
    fn default() -> Unread {
        Unread::within(UNREAD_BYTES_MAX)
    }
}

impl Unread {
    /// Room for that many bytes.
    pub(in crate::edge) fn within(bytes_max: usize) -> Unread {
        Unread(LargeAnswers::within(bytes_max))
    }

    /// The answer to a read.
    pub(super) fn read<M: Message>(&self, answer: M) -> Result<Response<M>, Status> {
        let bytes = answer.encoded_len();
        if bytes < LARGE_BYTES {
            return Ok(Response::new(answer));
        }
        let room = self.0.room(bytes).ok_or(Error::TooManyRequests)?;
        Ok(with(room, answer))
    }

    /// The answer to a change.
    pub(super) async fn changed<M: Message>(&self, answer: M) -> Result<Response<M>, Status> {
        let bytes = answer.encoded_len();
        if bytes < LARGE_BYTES {
            return Ok(Response::new(answer));
        }
        let room = self.0.room_in_time(bytes).await.ok_or(Error::Timeout)?;
        Ok(with(room, answer))
    }

    /// The answer to a long read, of which so many bytes are held at a time. Nothing is read before there
    /// is room, so it may wait for some.
    pub(super) async fn pieces<S>(&self, bytes: usize, answer: S) -> Result<Response<S>, Status> {
        let room = self.0.room_in_time(bytes).await;
        Ok(with(room.ok_or(Error::TooManyRequests)?, answer))
    }
}

fn with<M>(room: Room, answer: M) -> Response<M> {
    let mut response = Response::new(answer);
    response.extensions_mut().insert(room);
    response
}

/// The response, with the room that its handler took for it.
pub(super) fn hold(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Room>() {
        Some(room) => response.map(|body| Body::new(Roomed { body, room })),
        None => response,
    }
}

/// A body whose pieces have room.
struct Roomed {
    body: Body,
    room: Room,
}

impl hyper::body::Body for Roomed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Roomed { body, room } = self.get_mut();
        let frame = Pin::new(body).poll_frame(cx);
        frame.map_ok(|frame| frame.map_data(|piece| room.hold(piece)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
