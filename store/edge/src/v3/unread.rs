//! A memory budget for answers that clients have not read yet.
//!
//! A handler takes a share for a large answer and stores it in the answer's extensions. The body
//! takes it from there, and each of its pieces keeps it until HTTP/2 has sent the piece. A read
//! is refused if its answer has no room. A change is not: its answer waits for a while, and then
//! its outcome is reported as unknown.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use prost::Message;
use tonic::body::Body;
use tonic::{Response, Status};

use crate::Error;
use crate::large::{LARGE_BYTES, LargeAnswers, Room};

/// The limit of all large answers together, in bytes; `LargeAnswers` limits the part of a
/// connection.
const UNREAD_BYTES_MAX: usize = 128 << 20;

/// The budget for the answers of one member. Clones share it.
#[derive(Clone)]
pub struct Unread(LargeAnswers);

impl Default for Unread {
    fn default() -> Unread {
        Unread::within(UNREAD_BYTES_MAX)
    }
}

impl Unread {
    /// A budget of that many bytes.
    pub(crate) fn within(bytes_max: usize) -> Unread {
        Unread(LargeAnswers::within(bytes_max))
    }

    /// The answer to a read, with its share, or an error.
    pub(super) fn read<M: Message>(&self, answer: M) -> Result<Response<M>, Status> {
        let bytes = answer.encoded_len();
        if bytes < LARGE_BYTES {
            return Ok(Response::new(answer));
        }
        let room = self.0.room(bytes).ok_or(Error::TooManyRequests)?;
        Ok(with(room, answer))
    }

    /// The share of a call that waits, in place of that of its answer.
    pub(super) fn waits(&self, bytes: usize) -> Result<Room, Status> {
        Ok(self.0.room(bytes).ok_or(Error::TooManyRequests)?)
    }

    /// The answer to a change, with its share, or an error.
    pub(super) async fn changed<M: Message>(&self, answer: M) -> Result<Response<M>, Status> {
        let bytes = answer.encoded_len();
        if bytes < LARGE_BYTES {
            return Ok(Response::new(answer));
        }
        let room = self.0.room_in_time(bytes).await.ok_or(Error::Timeout)?;
        Ok(with(room, answer))
    }

    /// A chunk of an answer that the client's connection sends next, with its share. It waits for a
    /// while if there is no room.
    pub(crate) async fn chunk(&self, client: Option<SocketAddr>, chunk: Bytes) -> Option<Bytes> {
        self.0.hold_in_time(client, chunk).await
    }

    /// The answer to a streamed read, of which that many bytes are held at a time. The read
    /// starts only with a share, so it may wait for one.
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

/// Moves the share from the response's extensions to its body.
pub(super) fn hold(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Room>() {
        Some(room) => response.map(|body| Body::new(Roomed { body, room })),
        None => response,
    }
}

/// A body whose pieces hold a share.
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
