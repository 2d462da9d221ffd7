//! A memory budget for answers that clients have not read yet.
//!
//! A handler takes a share for a large answer and stores it in the answer's extensions. The body
//! takes it from there, and each of its pieces keeps it until HTTP/2 has sent the piece. A stream
//! that goes on takes a share for each of its large messages instead (`NextShare`). A read
//! is refused if its answer has no room. A change is not: its answer waits for a while, and then
//! its outcome is reported as unknown.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
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
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn waits(&self, bytes: usize) -> Result<Room, Error> {
        self.0.room(bytes).ok_or(Error::TooManyRequests)
    }

    /// A copy of a part of a call that waits, with its share until the last clone is dropped. The
    /// part itself may be of a buffer with the whole message.
    ///
    /// # Errors
    /// There is no room.
    pub fn kept(&self, part: &[u8]) -> Result<Bytes, Error> {
        // The ledger counts whole KiB.
        let room = self.waits(part.len().next_multiple_of(1024))?;
        Ok(room.hold(Bytes::copy_from_slice(part)))
    }

    /// The share of a part of a stream, if there is room.
    pub(super) fn part(&self, client: Option<SocketAddr>, bytes: usize) -> Option<Room> {
        self.0.room_now(client, bytes)
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

    /// Stores the share of a stream's next message. It waits for a while if there is no room.
    ///
    /// # Errors
    /// There is no room.
    pub(super) async fn next<M: Message>(
        &self,
        client: Option<SocketAddr>,
        message: &M,
        next: &NextShare,
    ) -> Result<(), Error> {
        let bytes = message.encoded_len();
        let room = match bytes < LARGE_BYTES {
            true => None,
            false => {
                let room = self.0.room_for(client, bytes).await;
                Some(room.ok_or(Error::TooManyRequests)?)
            }
        };
        *next.0.lock() = room;
        Ok(())
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

/// The share of the message that a stream gives out next, which the piece of the body with the
/// message takes. It is in the answer's extensions.
#[derive(Clone, Default)]
pub(super) struct NextShare(Arc<Mutex<Option<Room>>>);

/// Moves the share from the response's extensions to its body.
pub(super) fn hold(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Room>() {
        Some(room) => held(response, PieceShare::Whole(room)),
        None => hold_each(response),
    }
}

/// As [`hold`], for a stream with a share for each message.
pub(super) fn hold_each(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<NextShare>() {
        Some(next) => held(response, PieceShare::Each(next)),
        None => response,
    }
}

fn held(response: http::Response<Body>, share: PieceShare) -> http::Response<Body> {
    response.map(|body| Body::new(Roomed { body, share }))
}

/// The share of a body's pieces.
enum PieceShare {
    /// All have the same.
    Whole(Room),
    /// Each has that of its message. tonic gives out a message as large as those with shares before
    /// it takes the next one.
    Each(NextShare),
}

/// A body whose pieces hold a share.
struct Roomed {
    body: Body,
    share: PieceShare,
}

impl hyper::body::Body for Roomed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Roomed { body, share } = self.get_mut();
        let frame = Pin::new(body).poll_frame(cx);
        frame.map_ok(|frame| {
            frame.map_data(|piece| match share {
                PieceShare::Whole(room) => room.hold(piece),
                PieceShare::Each(next) => match next.0.lock().take() {
                    Some(room) => room.hold(piece),
                    None => piece,
                },
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
