//! Streams of watches that are served by hubs.

use std::hash::RandomState;

use parking_lot::MutexGuard;

use super::stream::Joining;
use super::*;
use crate::grpc::events::put_shared;
use crate::grpc::requests;
use crate::h2::shared::{Hub, Offer, SharedWatch};
use crate::policy::endpoint::WatchProgress;
use crate::policy::resumption::StreamRequest;
use crate::policy::shared_log::Next;

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

/// The same fields in the order of their names, `:path` first; those of one name stay in their
/// order. Go's clients send their metadata in any order. `None`: they cannot be read.
pub(super) fn in_order(fields: &[u8]) -> Option<Bytes> {
    let mut all = vec![];
    let mut decoder = hpack::Decoder::new(0);
    let decoded = decoder.decode(fields, usize::MAX, |name, value, sensitive| {
        all.push((name.to_vec(), value.to_vec(), sensitive));
    });
    decoded.ok()?;
    all.sort_by(|(one, ..), (other, ..)| {
        let key = |name: &[u8]| !name.starts_with(b":");
        (key(one), one).cmp(&(key(other), other))
    });
    let mut block = BytesMut::with_capacity(fields.len());
    for (name, value, sensitive) in &all {
        hpack::put_field(&mut block, name, value, *sensitive);
    }
    Some(block.freeze())
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
    pub(in crate::h2) fn offer(&self, keys: &RandomState, now: Instant) -> Option<Offer> {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        let CallState::Answering(upstream) = &shared.state else {
            return None;
        };
        // Only such a member states what it has sent.
        let exact = upstream.endpoint.progress() == Some(WatchProgress::InOrder);
        if !exact || self.hub.is_some() || self.deadline.is_some() {
            return None;
        }
        shared.stream.as_mut()?.offer(&shared.fields, keys, now)
    }

    /// What the watch with this id has in common with others.
    pub(in crate::h2) fn shared_watch(&self, id: i64) -> Option<SharedWatch> {
        let shared = self.shared.lock();
        shared.stream.as_ref()?.shared_watch(id, &shared.fields)
    }

    /// The stream is to be served by these hubs, one for each watch. It moves once the member has
    /// stated which events it has sent.
    pub(in crate::h2) fn join(&self, hubs: Vec<(i64, Arc<Hub>)>, now: Instant) {
        let mut shared = self.shared.lock();
        if let Some(stream) = &mut shared.stream
            && stream.join(Joining::new(hubs, now))
        {
            self.put_progress_request(&mut shared);
        }
    }

    /// Requests the member's progress for the proxy itself. Returns `false` without a member.
    pub(in crate::h2) fn request_progress(&self) -> bool {
        let mut shared = self.shared.lock();
        let answering = shared.state.is_answering();
        let Some(stream) = shared.stream.as_mut().filter(|_| answering) else {
            return false;
        };
        stream.request_progress();
        self.put_progress_request(&mut shared);
        true
    }

    fn put_progress_request(&self, shared: &mut Shared) {
        let mut request = BytesMut::new();
        requests::put_watch_request(&mut request, &StreamRequest::Progress);
        if let Some(upstream) = shared.state.upstream() {
            let gone = upstream.member.data(upstream.stream, &request, false);
            shared.waiting_own += request.len() - gone;
        }
    }

    /// Whether the member has answered the proxy's request for its progress.
    pub(in crate::h2) fn has_progress(&self) -> bool {
        let shared = self.shared.lock();
        shared.stream.as_ref().is_some_and(|one| one.has_progress())
    }

    /// Moves the stream from its member to the hubs, if they have all that its client lacks.
    pub(super) fn move_to_hubs(self: &Arc<Call>, mut guard: MutexGuard<'_, Shared>) {
        let shared = &mut *guard;
        let Some(stream) = &mut shared.stream else {
            return;
        };
        if !shared.state.is_answering() || !stream.attach(&shared.fields) {
            return;
        }
        let hubs = stream.hubs();
        if let Failed::Answering(upstream) = shared.state.fail(true) {
            upstream.member.reset(upstream.stream, ErrorCode::CANCEL);
        }
        shared.state = CallState::Shared;
        self.lose_upstream(shared);
        self.charge_response(shared.stream.as_mut());
        if !hubs
            .iter()
            .all(|(hub, watches)| hub.add_client(self, *watches))
        {
            self.continue_on_member(guard);
        }
    }

    /// Sends the client what a hub has for it, while the client reads. `all`: the
    /// positions of its watches are updated as well.
    pub(in crate::h2) fn receive_shared(self: &Arc<Call>, hub: &Arc<Hub>, all: bool) {
        let mut guard = self.shared.lock();
        let shared = &mut *guard;
        if !matches!(shared.state, CallState::Shared) {
            return;
        }
        if let Some(stream) = shared.stream.as_mut().filter(|_| all) {
            stream.note_positions(Some(hub));
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
                    // A watch of its own sends no more than the client's window has room for.
                    if !self.count_unread(shared, out.len()) {
                        return self.continue_on_member(guard);
                    }
                    let gone = self.client.data(self.stream, &out, false);
                    self.release_unread(shared, gone);
                    if let Some(stream) = &mut shared.stream {
                        stream.sent_shared(hub, &response);
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
        for (hub, _) in hubs.into_iter().flatten() {
            hub.remove_client(self);
        }
        shared.state = CallState::Searching;
        self.resume(shared, None, false);
    }

    /// Has the hubs continue: the client has read.
    pub(super) fn wake_hubs(self: &Arc<Call>, shared: &Shared) {
        if shared.unread == 0
            && matches!(shared.state, CallState::Shared)
            && let Some(stream) = &shared.stream
        {
            stream.hubs().iter().for_each(|(hub, _)| hub.wake(self));
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_port::http2::Role;

    use super::*;
    use crate::h2::shared::tests_of_hub;
    use crate::policy::resumption::Create;

    /// A stream of one watch at a member, which is to move to this hub.
    fn joining(hub: &Arc<Hub>) -> Arc<Call> {
        let call = tests_of_hub::call();
        let mut shared = call.shared.lock();
        let url = "http://127.0.0.1:1".to_owned();
        let address = crate::address::Address::of_url(&url).unwrap();
        shared.state = CallState::Answering(Upstream {
            member: Arc::new(Session::new(Role::Client, [0, 0], Bytes::new())),
            stream: 1,
            endpoint: Arc::new(Endpoint::new(url, address)),
        });
        let stream = shared.stream.as_mut().unwrap();
        let mut create = BytesMut::new();
        let request = StreamRequest::Create(Create {
            encoded: Box::default(),
            watch_id: 0,
            start_revision: 0,
        });
        requests::put_watch_request(&mut create, &request);
        stream.requests(&create, false).unwrap();
        let created = tests_of_hub::response(4, &[], 0);
        stream.responses(&created, &mut |_| {}).unwrap();
        assert!(stream.join(Joining::new(vec![(0, Arc::clone(hub))], Instant::now())));
        // The header with the revision, and the id -1.
        let progress = [
            &[0, 0, 0, 0, 15, 0x0a, 2, 0x18, 4, 0x10][..],
            &[0xff; 9],
            &[1],
        ]
        .concat();
        stream.responses(&progress, &mut |_| {}).unwrap();
        drop(shared);
        call
    }

    /// It would wait for the hub for ever: the other streams have left it already.
    #[tokio::test]
    async fn a_stream_whose_hub_ends_while_it_moves_continues_on_a_member() {
        for (hub, moves) in [
            (tests_of_hub::live().0, true),
            (tests_of_hub::closed(), false),
        ] {
            let call = joining(&hub);
            call.move_to_hubs(call.shared.lock());
            let shared = call.shared.lock();
            assert_eq!(matches!(shared.state, CallState::Shared), moves);
            assert_eq!(matches!(shared.state, CallState::Searching), !moves);
            assert_eq!(shared.stream.as_ref().unwrap().hubs().is_empty(), !moves);
        }
    }

    fn block(fields: &[(&str, &str)]) -> BytesMut {
        let mut block = BytesMut::new();
        for (name, value) in fields {
            hpack::put_field(
                &mut block,
                name.as_bytes(),
                value.as_bytes(),
                *name == "secret",
            );
        }
        block
    }

    #[test]
    fn the_order_of_metadata_makes_no_difference() {
        let one = [
            (":path", "/etcdserverpb.Watch/Watch"),
            ("hasleader", "true"),
            ("client-api-version", "3.5"),
            ("0", "first"),
            ("secret", "s"),
            ("x", "2"),
            ("x", "1"),
        ];
        let mut other = one;
        other.swap(1, 2);
        other.swap(3, 4);
        let ordered = in_order(&block(&one)).unwrap();
        assert_eq!(in_order(&block(&other)).unwrap(), ordered);
        let expected = [one[0], one[3], one[2], one[1], one[4], one[5], one[6]];
        assert_eq!(ordered, block(&expected));
        // The order of the values of one name counts.
        other.swap(5, 6);
        assert_ne!(in_order(&block(&other)).unwrap(), ordered);
        assert_eq!(in_order(&[0xff]), None);
    }
}
