//! A gRPC call between a client's stream and a member's.
//!
//! The task that reads the client's connection forwards most calls, and the task that reads the
//! member's connection answers them. A call gets a task of its own only if no member is connected
//! or the first one has failed. It is repeated on another member if the first has certainly not
//! processed it, or if it is a read without an answer. Otherwise it fails with etcd's error text
//! for a request of unknown outcome, which etcd's clients do not retry.

mod answer;
mod body;
mod refusal;
mod resume;
mod search;
mod shared;
mod state;
mod stream;

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use keelson_port::hpack;
use keelson_port::http2::NoStream;
use keelson_port::http2::frame::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{self, Instant};
use tracing::debug;

pub(super) use self::answer::AnswerStatus;
use self::refusal::{CONNECTION_LOST, RESOURCE_EXHAUSTED, TOO_MANY, UNAVAILABLE, trailers};
use self::state::{CallState, Failed, Shared, Upstream};
use super::owner::{ClientSession, Owner, Session};
use super::shared::Hub;
use crate::answers::Refusal;
use crate::context::Context;
use crate::grpc_methods::Kind;
use crate::http1::exchange::Failure;
use crate::policy::attempts::Attempts;
use crate::policy::endpoint::Endpoint;

/// The time for the request message of a unary call.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// The head of a call: its fields, and what they mean to the proxy.
pub(super) struct CallHead {
    /// The field block for members, from `:path` on.
    pub(super) fields: Bytes,
    pub(super) kind: Kind,
    /// The client's `grpc-timeout`.
    pub(super) timeout: Option<Duration>,
}

/// A call.
pub(super) struct Call {
    proxy: Arc<Context>,
    client: Arc<ClientSession>,
    stream: u32,
    kind: Kind,
    began: Instant,
    /// The end of the client's `grpc-timeout`.
    deadline: Option<Instant>,
    /// The hub that takes the place of the client.
    hub: Option<Weak<Hub>>,
    shared: Mutex<Shared>,
}

impl Call {
    pub(super) fn new(
        proxy: &Arc<Context>,
        client: &Arc<ClientSession>,
        stream: u32,
        head: CallHead,
    ) -> Arc<Call> {
        proxy.metrics.request(&Method::POST);
        Call::with_hub(proxy, client, stream, head, None)
    }

    /// `hub`: it takes the place of the client.
    fn with_hub(
        proxy: &Arc<Context>,
        client: &Arc<ClientSession>,
        stream: u32,
        head: CallHead,
        hub: Option<Weak<Hub>>,
    ) -> Arc<Call> {
        let began = Instant::now();
        let resumable = head.kind.resumable.map(stream::Stream::new);
        Arc::new(Call {
            proxy: Arc::clone(proxy),
            client: Arc::clone(client),
            stream,
            kind: head.kind,
            began,
            deadline: head.timeout.and_then(|timeout| began.checked_add(timeout)),
            hub,
            shared: Mutex::new(Shared {
                fields: head.fields,
                stream: resumable.map(Box::new),
                ..Shared::default()
            }),
        })
    }

    /// A number that is unique to the client's connection while it exists.
    pub(super) fn client(&self) -> usize {
        Arc::as_ptr(&self.client) as usize
    }

    /// Moves the later calls of the client to a lane of its own.
    pub(super) fn leave_shared(&self) {
        self.client.quota.take_lane();
    }

    /// Starts the call on the chosen member if that is connected, else spawns a task.
    fn forward(self: &Arc<Call>) {
        if self.deadline_passed() {
            return self.expire();
        }
        if let Some(endpoint) = self.proxy.endpoints.choose(self.kind.nearest)
            && let Some(member) = endpoint.link.open(self.client.quota.lane())
            && self.start_on(&endpoint, &member, None).is_ok()
        {
            return;
        }
        if self.shared.lock().unrepeatable {
            return self.fail(RESOURCE_EXHAUSTED, TOO_MANY);
        }
        self.search(None);
    }

    /// Spawns the task that tries one member after the other.
    fn search(self: &Arc<Call>, failed: Option<(Arc<Endpoint>, Failure)>) {
        let call = Arc::clone(self);
        tokio::spawn(async move {
            let proxy = Arc::clone(&call.proxy);
            let turns = Attempts::of_request(&proxy, call.kind.nearest);
            call.find_member(turns, failed).await;
        });
    }

    /// Starts the call on a member. A later failure goes to `on_failure`, if there is one.
    fn start_on(
        self: &Arc<Call>,
        endpoint: &Arc<Endpoint>,
        member: &Arc<Session>,
        on_failure: Option<oneshot::Sender<Failure>>,
    ) -> Result<(), NoStream> {
        let mut guard = self.shared.lock();
        let shared = &mut *guard;
        if shared.state.is_finished() {
            return Ok(());
        }
        if self.deadline_passed() {
            drop(guard);
            self.expire();
            return Ok(());
        }
        let owner = Owner::Member(Arc::clone(self));
        let end_stream = shared.body_complete;
        let requests = shared.stream.as_mut().map(|stream| stream.begin());
        let body = requests.as_ref().unwrap_or(&shared.body);
        let (stream, mut sent) = member.open(owner, &shared.fields, body, end_stream)?;
        let upstream = Upstream {
            member: Arc::clone(member),
            stream,
            endpoint: Arc::clone(endpoint),
        };
        shared.state = CallState::Sent {
            upstream,
            on_failure,
        };
        if let Some(requests) = &requests {
            // The client's window is open for them already.
            shared.waiting_own = requests.len() - sent;
            sent = 0;
        }
        if shared.unrepeatable {
            self.forget(shared);
        }
        drop(guard);
        self.client.release_capacity(self.stream, sent);
        Ok(())
    }

    /// Bytes that waited for the member's window have been sent.
    pub(super) fn reached_member(&self, bytes: usize) {
        let of_client = self.shared.lock().sent_to_member(bytes);
        self.client.release_capacity(self.stream, of_client);
    }

    /// The member's stream has failed.
    pub(super) fn failed(self: &Arc<Call>, failure: Failure) {
        let mut shared = self.shared.lock();
        let resumes = shared.stream.as_ref().is_some_and(|one| one.can_resume());
        match shared.state.fail(resumes) {
            Failed::Unanswered(_, Some(on_failure)) => {
                self.lose_upstream(&mut shared);
                drop(on_failure.send(failure));
            }
            Failed::Unanswered(upstream, None) => {
                self.lose_upstream(&mut shared);
                self.search(Some((upstream.endpoint, failure)));
            }
            Failed::Answering(upstream) if resumes => {
                self.resume(shared, Some((upstream.endpoint, failure)), false);
            }
            Failed::Answering(_) => {
                self.finish(&mut shared);
                // clientv3 maps a reset to "internal error", at which applications give up.
                let block = trailers(UNAVAILABLE, CONNECTION_LOST, &[]);
                self.client.fields(self.stream, &block, true);
            }
            Failed::Nothing => {}
        }
    }

    /// The member has reset this stream alone, or its answer cannot be forwarded. That is no sign
    /// of a failed member, and another member would hardly succeed.
    pub(super) fn failed_alone(self: &Arc<Call>) {
        let answering = self.shared.lock().state.is_answering();
        match (answering, self.may_repeat()) {
            (true, _) => self.failed(crate::policy::forward::gone()),
            (false, true) => self.refuse(Refusal::NoAnswer),
            (false, false) => self.refuse(Refusal::OutcomeUnknown),
        }
    }

    /// Repeats a slow read on another member, after its member was found unreachable.
    pub(super) fn leave(self: &Arc<Call>, member: &Session, stream: u32) {
        if self.may_repeat() {
            member.reset(stream, ErrorCode::CANCEL);
            self.failed(crate::policy::forward::gone());
        }
    }

    /// Whether the call may be sent to another member although the first one may have executed it.
    fn may_repeat(&self) -> bool {
        self.kind.read || self.shared.lock().stream.is_some()
    }

    /// Whether the client's `grpc-timeout` has passed.
    fn deadline_passed(&self) -> bool {
        self.deadline.is_some_and(|until| until <= Instant::now())
    }

    /// The time at which the call expires. `half_closed_remote`: the request has ended.
    pub(super) fn due(&self, half_closed_remote: bool) -> Option<Instant> {
        let body = !half_closed_remote && self.kind.unary;
        let body = body.then(|| self.began + BODY_TIME_MAX);
        self.deadline.into_iter().chain(body).min()
    }

    /// The time since the call arrived.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Cancels the call: the client has reset its stream or disconnected.
    pub(super) fn cancel(&self) {
        let upstream = self.finish(&mut self.shared.lock());
        if let Some(upstream) = upstream {
            upstream.member.reset(upstream.stream, ErrorCode::CANCEL);
        }
    }

    /// Ends the call. Returns the member's stream, if there is one.
    fn finish(&self, shared: &mut Shared) -> Option<Upstream> {
        self.forget(shared);
        self.release_stream(shared);
        if let Some(hub) = self.hub.as_ref().and_then(Weak::upgrade) {
            hub.end();
        }
        shared.state.finish()
    }

    fn is_finished(&self) -> bool {
        self.shared.lock().state.is_finished()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut shared = std::mem::take(self.shared.get_mut());
        self.release_memory(&mut shared);
        self.release_stream(&mut shared);
        self.release_unread(&mut shared, usize::MAX);
    }
}
