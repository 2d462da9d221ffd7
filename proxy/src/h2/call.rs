//! A gRPC call on its way: from a client's stream to a member's, or to the next member's.
//!
//! Most calls are handed on by the task that reads the client's connection, and answered by the one
//! that reads the member's; a call has a task of its own only when something is wrong: no member is
//! connected, or the first has failed. It is tried on another member when the first has surely not
//! begun with it, or when it is a read whose answer has not begun; any other fails with the error text
//! of etcd's members for a request of unknown outcome, which etcd's clients do not retry.

mod answer;
mod body;
mod refusal;
mod search;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use keelson_port::hpack;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{self, Instant};
use tracing::debug;

use self::refusal::{CONNECTION_LOST, RESOURCE_EXHAUSTED, TOO_MANY, UNAVAILABLE, trailers};
use super::frame::Code;
use super::session::{NoStream, Session};
use crate::answers::Refusal;
use crate::context::Context;
use crate::grpc_methods::Kind;
use crate::http1::exchange::Failure;
use crate::policy::attempts::Attempts;
use crate::policy::endpoint::Endpoint;

/// From the beginning of a call that is one message to its end.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A client's request.
pub(super) struct Asked {
    /// Its fields as they go to members, compressed, from `:path` on.
    pub(super) fields: Bytes,
    pub(super) kind: Kind,
    /// How long its client waits for it.
    pub(super) patience: Option<Duration>,
}

/// A call.
pub(super) struct Call {
    proxy: Arc<Context>,
    client: Arc<Session>,
    stream: u32,
    kind: Kind,
    began: Instant,
    /// When its client waits no longer.
    until: Option<Instant>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Its fields, until it is answered.
    fields: Bytes,
    /// How much room was taken for its fields, and for its body.
    kept: usize,
    kept_body: usize,
    /// What has come of the body and may have to be sent, perhaps again.
    body: BytesMut,
    /// All of it has come.
    whole: bool,
    /// It has been handed on, or is about to be.
    begun: bool,
    /// Some of it is not kept once it has gone.
    torn: bool,
    place: Option<Place>,
    answered: bool,
    /// Of its answer, what waits until its client reads.
    unread: usize,
    /// It has ended.
    over: bool,
    /// Its own task, when it has one.
    told: Option<oneshot::Sender<Failure>>,
}

/// Where a call is being answered.
struct Place {
    member: Arc<Session>,
    stream: u32,
    endpoint: Arc<Endpoint>,
}

impl Call {
    pub(super) fn new(
        proxy: &Arc<Context>,
        client: &Arc<Session>,
        stream: u32,
        asked: Asked,
    ) -> Arc<Call> {
        proxy.metrics.request(&Method::POST);
        let began = Instant::now();
        Arc::new(Call {
            proxy: Arc::clone(proxy),
            client: Arc::clone(client),
            stream,
            kind: asked.kind,
            began,
            until: asked
                .patience
                .and_then(|patience| began.checked_add(patience)),
            state: Mutex::new(State {
                fields: asked.fields,
                ..State::default()
            }),
        })
    }

    /// A number of its client's connection, as long as that is there.
    pub(super) fn client(&self) -> usize {
        Arc::as_ptr(&self.client) as usize
    }

    /// Its client takes so much of a connection that its next calls go by connections of its own.
    pub(super) fn leave_shared(&self) {
        self.client.share.take_lane();
    }

    /// To the member that is to have it, if that is connected.
    fn hand_on(self: &Arc<Call>) {
        if self.is_late() {
            return self.expire();
        }
        if let Some(endpoint) = self.proxy.endpoints.choose(self.kind.nearest)
            && let Some(member) = endpoint.link.open(self.client.share.lane())
            && self.begin_at(&endpoint, &member, None).is_ok()
        {
            return;
        }
        if self.state.lock().torn {
            return self.end(RESOURCE_EXHAUSTED, TOO_MANY);
        }
        tokio::spawn(Arc::clone(self).find_member(None));
    }

    /// Begins it at a member. Its own task, if it has one, gets the failure that comes later.
    fn begin_at(
        self: &Arc<Call>,
        endpoint: &Arc<Endpoint>,
        member: &Arc<Session>,
        told: Option<oneshot::Sender<Failure>>,
    ) -> Result<(), NoStream> {
        let mut state = self.state.lock();
        if state.over {
            return Ok(());
        }
        if self.is_late() {
            drop(state);
            self.expire();
            return Ok(());
        }
        let (stream, gone) = member.begin(self, &state.fields, &state.body, state.whole)?;
        state.place = Some(Place {
            member: Arc::clone(member),
            stream,
            endpoint: Arc::clone(endpoint),
        });
        state.told = told;
        if state.torn {
            self.forget(&mut state);
        }
        drop(state);
        self.client.consumed(self.stream, gone);
        Ok(())
    }

    /// The member has got more of what waited for it.
    pub(super) fn reached_member(&self, bytes: usize) {
        self.client.consumed(self.stream, bytes);
    }

    /// The member's stream has come to a bad end.
    pub(super) fn failed(self: &Arc<Call>, failure: Failure) {
        let mut state = self.state.lock();
        let Some(place) = state.place.take().filter(|_| !state.over) else {
            return;
        };
        if state.answered {
            state.over = true;
            // A reset would be "internal error" to clients, who then give up.
            let block = trailers(UNAVAILABLE, CONNECTION_LOST, &[]);
            self.client.fields(self.stream, &block, true);
            return;
        }
        match state.told.take() {
            Some(told) => drop(told.send(failure)),
            None => {
                let first = Some((place.endpoint, failure));
                drop(tokio::spawn(Arc::clone(self).find_member(first)));
            }
        }
    }

    /// The member has given up this call alone, or answers it with what cannot be passed on. That
    /// says nothing of the member, and another one would hardly do better.
    pub(super) fn broke_off(self: &Arc<Call>) {
        let answered = {
            let mut state = self.state.lock();
            state.told = None;
            state.answered
        };
        match (answered, self.kind.read) {
            (true, _) => self.failed(crate::policy::forward::gone()),
            (false, true) => self.refuse(Refusal::NoAnswer),
            (false, false) => self.refuse(Refusal::OutcomeUnknown),
        }
    }

    /// It takes long, and its member has turned out to be gone: a read goes elsewhere.
    pub(super) fn leave(self: &Arc<Call>, member: &Session, stream: u32) {
        if self.kind.read {
            member.reset(stream, Code::CANCEL);
            self.failed(crate::policy::forward::gone());
        }
    }

    /// Whether its client waits no longer.
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// When it is to be ended if nothing changes; `heard_all`: all of it has come.
    pub(super) fn due(&self, heard_all: bool) -> Option<Instant> {
        let body = !heard_all && self.kind.unary;
        let body = body.then(|| self.began + BODY_TIME_MAX);
        self.until.into_iter().chain(body).min()
    }

    /// How long ago it came.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The client has ended it.
    pub(super) fn cancel(&self) {
        let mut state = self.state.lock();
        let place = state.place.take();
        self.over(&mut state, true);
        drop(state);
        if let Some(place) = place {
            place.member.reset(place.stream, Code::CANCEL);
        }
    }

    fn over(&self, state: &mut State, last: bool) {
        if last {
            state.over = true;
            state.place = None;
            state.told = None;
            self.forget(state);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = std::mem::take(self.state.get_mut());
        self.give_back(&mut state);
        self.is_read(&mut state, usize::MAX);
    }
}
