//! The body of an answer: whole, from a member, or from a watch.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Body, Frame, SizeHint};
use keelson_port::Cut;

use crate::http1::client::{Connection, Decoded, Framing};
use crate::http1::raft_term::TermFilter;
use crate::policy::endpoint::Endpoint;

type BoxError = Box<dyn Error + Send + Sync>;

/// The events of a watch.
pub(crate) type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, Cut>> + Send>>;

/// The body of a client's answer.
pub(crate) enum AnswerBody {
    /// All of it; may be empty.
    Whole(Bytes),
    /// A body that its member still sends.
    Member(MemberBody),
    /// A watch on a connection that cannot be parked.
    Parts(Parts),
}

/// A body that a member sends. It is read as fast as the client reads. Dropping it before its end
/// closes the member's connection, so that the member notices that the client has left.
pub(crate) struct MemberBody {
    /// `None` after the end of the body.
    source: Option<(Connection, Arc<Endpoint>)>,
    /// The first part, decoded ahead.
    first: Option<Bytes>,
    framing: Framing,
    keep: bool,
    /// Corrects the Raft terms of a body without a stated length.
    pub(super) terms: Option<Box<TermFilter>>,
}

impl MemberBody {
    pub(crate) fn new(
        connection: Connection,
        endpoint: Arc<Endpoint>,
        framing: Framing,
        keep: bool,
    ) -> MemberBody {
        MemberBody {
            source: Some((connection, endpoint)),
            first: None,
            framing,
            keep,
            terms: None,
        }
    }

    /// Checks whether the whole body has arrived, as most have.
    pub(crate) fn whole(mut self) -> io::Result<AnswerBody> {
        if self.terms.is_some() {
            return Ok(AnswerBody::Member(self));
        }
        let first = match self.decode()? {
            Decoded::Part(part) => part,
            Decoded::Starved => return Ok(AnswerBody::Member(self)),
            Decoded::End => return Ok(AnswerBody::Whole(Bytes::new())),
        };
        match self.decode_ahead()? {
            true => Ok(AnswerBody::Whole(first)),
            false => {
                self.first = Some(first);
                Ok(AnswerBody::Member(self))
            }
        }
    }

    /// Whether the body has ended. A part that follows is not consumed.
    fn decode_ahead(&mut self) -> io::Result<bool> {
        let Some((connection, _)) = &mut self.source else {
            return Ok(true);
        };
        let ends = self.framing.ends(&mut connection.received)?;
        if ends {
            self.end();
        }
        Ok(ends)
    }

    /// The next part that has arrived.
    fn decode(&mut self) -> io::Result<Decoded> {
        let Some((connection, _)) = &mut self.source else {
            return Ok(Decoded::End);
        };
        let decoded = self.framing.decode(&mut connection.received)?;
        if decoded == Decoded::End {
            self.end();
        }
        Ok(decoded)
    }

    /// Returns the connection to the pool.
    fn end(&mut self) {
        if let Some((connection, endpoint)) = self.source.take()
            && self.keep
        {
            endpoint.give_back(connection);
        }
    }

    /// The next part; `None` is the end.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let part = ready!(self.poll_received(cx))?;
            let Some(terms) = &mut self.terms else {
                return Poll::Ready(Ok(part));
            };
            match part {
                // The filter holds all of it.
                Some(part) => match terms.pass(part) {
                    part if part.is_empty() => {}
                    part => return Poll::Ready(Ok(Some(part))),
                },
                None => {
                    let rest = Some(terms.finish()).filter(|rest| !rest.is_empty());
                    return Poll::Ready(Ok(rest));
                }
            }
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        loop {
            match self.decode()? {
                Decoded::Part(part) => return Poll::Ready(Ok(Some(part))),
                Decoded::End => return Poll::Ready(Ok(None)),
                Decoded::Starved => {}
            }
            let Some((connection, _)) = &mut self.source else {
                return Poll::Ready(Ok(None));
            };
            if ready!(connection.poll_more(cx))? == 0 {
                self.source = None;
                return Poll::Ready(match self.framing.may_end() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
    }

    /// The member that sends it.
    pub(crate) fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.source
            .as_ref()
            .map(|(_, endpoint)| Arc::clone(endpoint))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            AnswerBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            AnswerBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            AnswerBody::Member(body) => {
                let part = ready!(body.poll_part(cx));
                Poll::Ready(
                    part.map(|part| part.map(Frame::data))
                        .map_err(BoxError::from)
                        .transpose(),
                )
            }
            AnswerBody::Parts(parts) => {
                let part = ready!(parts.as_mut().poll_next(cx));
                Poll::Ready(part.map(|part| Ok(Frame::data(part?))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(bytes) => bytes.is_empty(),
            AnswerBody::Member(_) | AnswerBody::Parts(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Parts(_) => SizeHint::default(),
            AnswerBody::Member(body) => body.size_hint(),
        }
    }
}

impl MemberBody {
    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => {
                let first = self.first.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(left + first as u64)
            }
            _ => SizeHint::default(),
        }
    }
}
