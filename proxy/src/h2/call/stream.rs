//! A stream that another member can continue: its state, and what of it is in memory.

mod sharing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

pub(super) use self::sharing::Joining;
use self::sharing::Served;
use crate::grpc::Unreadable;
use crate::grpc::requests::{self, RequestReader};
use crate::grpc::responses::{ResponseReader, Stopped};
use crate::grpc_methods::Resumable;
use crate::h2::shared::Hub;
use crate::policy::endpoint::WatchProgress;
use crate::policy::resumption::{KeepAlives, StreamRequest, Verdict, WatchPositions};

/// A failure so soon after the stream was begun on a member belongs to the same outage.
const OUTAGE_GAP: Duration = Duration::from_secs(1);

/// A stream of watches or keepalives.
pub(super) struct Stream {
    state: StreamState,
    requests: RequestReader,
    /// The client sends no more.
    ended: bool,
    responses: ResponseReader,
    /// When the stream was last begun on a member.
    begun: Option<Instant>,
    /// Since when no member has served the stream.
    outage: Option<Instant>,
    /// The member has answered since the stream was begun on it.
    served: bool,
    /// The client's latest request, or the end of a pause.
    quiet_since: Instant,
    /// The hubs that the stream is to be served by.
    joining: Option<Joining>,
    /// The hubs that serve it.
    shared: Vec<Served>,
    /// The stream was begun more than once.
    pub(super) resumed: bool,
    /// The bytes that are charged for requests and positions, and for responses in parts.
    pub(super) charged: usize,
    pub(super) charged_responses: usize,
}

enum StreamState {
    Watch(WatchPositions),
    KeepAlive(KeepAlives),
}

/// A request of a client.
enum ClientRequest {
    /// `None`: of a kind that members ignore.
    Watch(Option<StreamRequest>),
    /// The renewal of this lease.
    KeepAlive(i64),
}

impl Stream {
    pub(super) fn new(of: Resumable) -> Stream {
        Stream {
            state: match of {
                Resumable::Watch => StreamState::Watch(WatchPositions::default()),
                Resumable::KeepAlive => StreamState::KeepAlive(KeepAlives::default()),
            },
            requests: RequestReader::default(),
            ended: false,
            responses: ResponseReader::default(),
            begun: None,
            outage: None,
            served: false,
            quiet_since: Instant::now(),
            joining: None,
            shared: vec![],
            resumed: false,
            charged: 0,
            charged_responses: 0,
        }
    }

    /// Takes data of the client. Returns the complete requests; at the end, all that is left.
    /// `Err`: the stream cannot be read, and this is to be sent. Nothing of it is kept.
    pub(super) fn requests(&mut self, data: &[u8], end: bool) -> Result<BytesMut, BytesMut> {
        self.quiet_since = self.quiet_since.max(Instant::now());
        // The hubs were chosen for the watches before.
        self.joining = None;
        let Ok(mut whole) = self.requests.read(data) else {
            return Err(self.requests.partial.split());
        };
        let requests = requests::payloads(&whole).map(|payload| self.request(payload));
        let Ok(requests) = requests.collect::<Result<Vec<_>, _>>() else {
            whole.unsplit(self.requests.partial.split());
            return Err(whole);
        };
        requests.into_iter().for_each(|request| self.note(request));
        self.ended |= end;
        if end {
            whole.extend_from_slice(&self.requests.partial);
        }
        Ok(whole)
    }

    fn request(&self, payload: &[u8]) -> Result<ClientRequest, Unreadable> {
        Ok(match &self.state {
            StreamState::Watch(_) => ClientRequest::Watch(requests::watch_request(payload)?),
            StreamState::KeepAlive(_) => {
                ClientRequest::KeepAlive(requests::keepalive_request(payload)?)
            }
        })
    }

    fn note(&mut self, request: ClientRequest) {
        match (&mut self.state, request) {
            (StreamState::Watch(watches), ClientRequest::Watch(Some(request))) => {
                watches.request(request);
            }
            (StreamState::KeepAlive(keepalives), ClientRequest::KeepAlive(lease)) => {
                keepalives.request(lease);
            }
            _ => {}
        }
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
        let served = &mut self.served;
        let mut judge = |response: &_| {
            let verdict = match state {
                StreamState::Watch(watches) => watches.response(response),
                StreamState::KeepAlive(keepalives) => keepalives.response(&response.header),
            };
            *served |= matches!(verdict, Verdict::Forward | Verdict::Drop);
            verdict
        };
        self.responses.read(data, &mut judge, forward)
    }

    /// How the stream's member states the progress of watches. Until its version is known, a
    /// statement may precede the events up to it.
    pub(super) fn set_progress(&mut self, progress: Option<WatchProgress>) {
        if let StreamState::Watch(watches) = &mut self.state {
            watches.set_ahead(progress != Some(WatchProgress::InOrder));
        }
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
                StreamState::Watch(watches) => watches.can_resume(),
                StreamState::KeepAlive(_) => true,
            }
    }

    /// Whether the stream was begun on another member, which has not served it yet.
    pub(super) fn awaits_member(&self) -> bool {
        self.resumed && !self.served
    }

    /// The requests for the next member, which begins the stream.
    pub(super) fn begin(&mut self) -> BytesMut {
        self.resumed |= self.begun.is_some();
        self.begun = Some(Instant::now());
        self.joining = None;
        self.served = false;
        self.responses = ResponseReader::default();
        let mut out = BytesMut::new();
        match &mut self.state {
            StreamState::Watch(watches) => {
                let requests: Vec<StreamRequest> = watches.resume();
                for request in &requests {
                    requests::put_watch_request(&mut out, request);
                }
            }
            StreamState::KeepAlive(keepalives) => {
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

    /// The member has failed. Returns since when no member has served the stream, and whether it
    /// has failed a moment before as well.
    pub(super) fn outage(&mut self, now: Instant) -> (Instant, bool) {
        let recent = |begun: Instant| now.saturating_duration_since(begun) < OUTAGE_GAP;
        let recent = self.begun.is_some_and(recent);
        let since = self.outage.filter(|_| recent && !self.served);
        let lasts = recent && self.outage.is_some();
        let since = since.unwrap_or(now);
        self.outage = Some(since);
        (since, lasts)
    }

    /// The memory for requests and positions, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let state = match &self.state {
            StreamState::Watch(watches) => watches.bytes(),
            StreamState::KeepAlive(keepalives) => keepalives.bytes(),
        };
        state + self.requests.partial.len()
    }
}
