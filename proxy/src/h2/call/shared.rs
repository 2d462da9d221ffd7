//! Streams of watches that are served by hubs.

use parking_lot::MutexGuard;

use super::stream::Joining;
use super::*;
use crate::grpc::events::put_shared;
use crate::grpc::requests;
use crate::h2::shared::{Hub, Offer, WatchKey};
use crate::policy::resumption::StreamRequest;
use crate::policy::shared_log::Next;

/// The key of watches with these fields and this form of the request.
pub(super) fn key(fields: &[u8], form: &[u8]) -> WatchKey {
    let length = (fields.len() as u64).to_be_bytes();
    [&length, fields, form].concat().into()
}

/// Whether a field block has a token. Its watches are not shared: a stream that leaves a hub is
/// begun on a member once more, and the token may have expired since.
pub(super) fn has_token(fields: &[u8]) -> bool {
    let mut found = false;
    let mut decoder = hpack::Decoder::new(0);
    let decoded = decoder.decode(fields, usize::MAX, |name, _, _| {
        found |= matches!(name, b"token" | b"authorization");
    });
    found || decoded.is_err()
}

/// The fields and the form of a key.
pub(in crate::h2) fn parts_of_key(key: &[u8]) -> (Bytes, &[u8]) {
    let (length, rest) = key.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let (fields, form) = rest.split_at(length.min(rest.len()));
    (Bytes::copy_from_slice(fields), form)
}

impl Call {
    /// The call of a hub, whose client is the hub.
    pub(in crate::h2) fn of_hub(
        proxy: &Arc<Context>,
        session: &Arc<ClientSession>,
        like: &Call,
        fields: Bytes,
        hub: Weak<Hub>,
    ) -> Arc<Call> {
        let head = CallHead {
            fields,
            kind: like.kind,
            timeout: None,
        };
        Call::with_hub(proxy, session, 1, head, Some(hub))
    }

    /// The keys of the stream's watches, each with its id, if all could be served by hubs.
    pub(in crate::h2) fn offer(&self, now: Instant) -> Option<Offer> {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        if self.hub.is_some() || !shared.state.is_answering() || self.deadline.is_some() {
            return None;
        }
        shared.stream.as_mut()?.offer(&shared.fields, now)
    }

    /// The stream is to be served by these hubs, one for each watch. It moves once the member has
    /// stated which events it has sent.
    pub(in crate::h2) fn join(&self, hubs: Vec<(i64, Arc<Hub>)>, now: Instant) {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        let (Some(stream), Some(upstream)) = (&mut shared.stream, shared.state.upstream()) else {
            return;
        };
        if stream.join(Joining::new(hubs, now)) {
            let mut request = BytesMut::new();
            requests::put_watch_request(&mut request, &StreamRequest::Progress);
            let gone = upstream.member.data(upstream.stream, &request, false);
            shared.waiting_own += request.len() - gone;
        }
    }

    /// Moves the stream from its member to the hubs, if they have all that its client lacks.
    pub(super) fn move_to_hubs(self: &Arc<Call>, shared: &mut Shared) {
        let Some(stream) = &mut shared.stream else {
            return;
        };
        if !shared.state.is_answering() || !stream.attach() {
            return;
        }
        let hubs = stream.hubs();
        if let Failed::Answering(upstream) = shared.state.fail(true) {
            upstream.member.reset(upstream.stream, ErrorCode::CANCEL);
        }
        shared.state = CallState::Shared;
        self.lose_upstream(shared);
        self.charge_response(shared.stream.as_mut());
        hubs.iter().for_each(|hub| hub.add_client(self));
    }

    /// Sends the client what a hub has for it, while the client reads.
    pub(in crate::h2) fn receive_shared(self: &Arc<Call>, hub: &Arc<Hub>) {
        let mut guard = self.shared.lock();
        let shared = &mut *guard;
        if !matches!(shared.state, CallState::Shared) {
            return;
        }
        let mut out = BytesMut::new();
        while shared.unread == 0
            && let Some(stream) = &mut shared.stream
        {
            match stream.next_shared(hub) {
                Next::End => return,
                Next::Gone => return self.continue_on_member(guard),
                Next::Response((id, response)) => {
                    out.clear();
                    put_shared(&mut out, id, &response);
                    let waits = out.len() - self.client.data(self.stream, &out, false);
                    if 0 < waits && !self.count_unread(shared, waits) {
                        drop(guard);
                        return self.reject_answer();
                    }
                }
            }
        }
    }

    /// A hub of the stream has ended.
    pub(in crate::h2) fn leave_hubs(self: &Arc<Call>) {
        self.continue_on_member(self.shared.lock());
    }

    /// Continues the stream on a member.
    pub(super) fn continue_on_member(self: &Arc<Call>, mut shared: MutexGuard<'_, Shared>) {
        if !matches!(shared.state, CallState::Shared) {
            return;
        }
        let hubs = shared.stream.as_mut().map(|stream| stream.detach());
        for hub in hubs.into_iter().flatten() {
            hub.remove_client(self);
        }
        shared.state = CallState::Searching;
        self.resume(shared, None, false);
    }

    /// Has the hubs continue: the client has read.
    pub(super) fn wake_hubs(&self, shared: &Shared) {
        if shared.unread == 0
            && matches!(shared.state, CallState::Shared)
            && let Some(stream) = &shared.stream
        {
            stream.hubs().iter().for_each(|hub| hub.wake());
        }
    }
}
