//! A stream that another member can continue: its state, and what of it is in memory.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::grpc::Unreadable;
use crate::grpc::requests::{self, RequestReader};
use crate::grpc::responses::{ResponseReader, Stopped};
use crate::grpc_methods::Resumable;
use crate::policy::resumption::{KeepAlives, StreamRequest, WatchPositions};

/// A failure so soon after the stream was begun on a member belongs to the same outage.
const OUTAGE_GAP: Duration = Duration::from_secs(1);

/// A stream of watches or keepalives.
pub(super) struct Stream {
    state: State,
    requests: RequestReader,
    /// The client sends no more.
    ended: bool,
    responses: ResponseReader,
    /// When the stream was last begun on a member.
    begun: Option<Instant>,
    /// When the outage began in which no member has served the stream for long.
    outage: Option<Instant>,
    /// The stream was begun more than once.
    pub(super) resumed: bool,
    /// The bytes that are charged for requests and positions, and for responses in parts.
    pub(super) charged: usize,
    pub(super) charged_responses: usize,
}

enum State {
    Watch(WatchPositions),
    KeepAlive(KeepAlives),
}

impl Stream {
    pub(super) fn new(of: Resumable) -> Stream {
        Stream {
            state: match of {
                Resumable::Watch => State::Watch(WatchPositions::default()),
                Resumable::KeepAlive => State::KeepAlive(KeepAlives::default()),
            },
            requests: RequestReader::default(),
            ended: false,
            responses: ResponseReader::default(),
            begun: None,
            outage: None,
            resumed: false,
            charged: 0,
            charged_responses: 0,
        }
    }

    /// Takes data of the client. Returns the complete requests; at the end, all that is left.
    /// `Err`: the stream cannot be read, and this is to be sent.
    pub(super) fn requests(&mut self, data: &[u8], end: bool) -> Result<BytesMut, BytesMut> {
        let Ok(mut whole) = self.requests.read(data) else {
            return Err(self.requests.partial.split());
        };
        let readable = requests::payloads(&whole).all(|payload| self.request(payload).is_ok());
        if !readable {
            whole.unsplit(self.requests.partial.split());
            return Err(whole);
        }
        self.ended |= end;
        if end {
            whole.extend_from_slice(&self.requests.partial);
        }
        Ok(whole)
    }

    fn request(&mut self, payload: &[u8]) -> Result<(), Unreadable> {
        match &mut self.state {
            State::Watch(watches) => {
                if let Some(request) = requests::watch_request(payload)? {
                    watches.request(request);
                }
            }
            State::KeepAlive(keepalives) => {
                keepalives.request(requests::keepalive_request(payload)?);
            }
        }
        Ok(())
    }

    /// The size of the request that is not complete.
    pub(super) fn partial_request(&self) -> usize {
        self.requests.partial.len()
    }

    /// What was received of the request that is not complete.
    pub(super) fn take_partial_request(&mut self) -> BytesMut {
        self.requests.partial.split()
    }

    /// Takes data of the member. Returns the number of bytes that were dropped.
    pub(super) fn responses(
        &mut self,
        data: &[u8],
        forward: &mut impl FnMut(&[u8]),
    ) -> Result<usize, Stopped> {
        let state = &mut self.state;
        let mut judge = |response: &_| match state {
            State::Watch(watches) => watches.response(response),
            State::KeepAlive(keepalives) => keepalives.response(&response.header),
        };
        self.responses.read(data, &mut judge, forward)
    }

    /// The size of the response that is not complete.
    pub(super) fn partial_response(&self) -> usize {
        self.responses.collected()
    }

    /// There is no memory to collect the response: it passes in parts.
    pub(super) fn pass_response(&mut self, forward: &mut impl FnMut(&[u8])) {
        self.responses.pass(forward);
    }

    /// Whether another member can continue the stream exactly.
    pub(super) fn can_resume(&self) -> bool {
        !self.responses.is_passing()
            && match &self.state {
                State::Watch(watches) => watches.can_resume(),
                State::KeepAlive(_) => true,
            }
    }

    /// The requests for the next member, which begins the stream.
    pub(super) fn begin(&mut self) -> BytesMut {
        self.resumed |= self.begun.is_some();
        self.begun = Some(Instant::now());
        self.responses = ResponseReader::default();
        let mut out = BytesMut::new();
        match &mut self.state {
            State::Watch(watches) => {
                let requests: Vec<StreamRequest> = watches.resume();
                for request in &requests {
                    requests::put_watch_request(&mut out, request);
                }
            }
            State::KeepAlive(keepalives) => {
                for lease in keepalives.resume() {
                    requests::put_keepalive_request(&mut out, lease);
                }
            }
        }
        if self.ended {
            out.extend_from_slice(&self.requests.partial);
        }
        out
    }

    /// The member has failed. Returns since when the outage lasts, and whether it is not new.
    pub(super) fn outage(&mut self, now: Instant) -> (Instant, bool) {
        let recent = |begun: Instant| now.saturating_duration_since(begun) < OUTAGE_GAP;
        let lasts = self.outage.filter(|_| self.begun.is_some_and(recent));
        let since = lasts.unwrap_or(now);
        self.outage = Some(since);
        (since, lasts.is_some())
    }

    /// The memory for requests and positions, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let state = match &self.state {
            State::Watch(watches) => watches.bytes(),
            State::KeepAlive(keepalives) => keepalives.bytes(),
        };
        state + self.requests.partial.len()
    }
}
