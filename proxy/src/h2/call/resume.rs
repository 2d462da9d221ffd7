//! Streams that outlive their member.

use keelson_port::http2::SMALL_BYTES;
use parking_lot::MutexGuard;

use super::*;
use crate::grpc::responses::Stopped;
use crate::h2::memory::{self, REQUEST_BYTES};
use crate::policy::resumption::Verdict;

/// The pause before a further member is tried in an outage.
const PAUSE: Duration = Duration::from_millis(100);

impl Call {
    /// Takes data of the client for a stream. Returns what is to be sent unread from now on, if
    /// the stream cannot be read.
    pub(super) fn stream_data(
        &self,
        shared: &mut Shared,
        data: &[u8],
        end: bool,
    ) -> Option<BytesMut> {
        let stream = shared.stream.as_mut()?;
        let before = stream.partial_request();
        let requests = match stream.requests(data, end) {
            Ok(whole) if self.charge(shared) => whole,
            Ok(mut whole) => {
                let partial = shared.stream.as_mut().filter(|_| !end);
                let partial = partial.map(|stream| stream.take_partial_request());
                // Without a member the stream begins with them, and at its end with the rest.
                if matches!(shared.state, CallState::Collecting | CallState::Searching) {
                    whole.clear();
                }
                whole.unsplit(partial.unwrap_or_default());
                return Some(self.stop_reading(shared, whole));
            }
            Err(unread) => return Some(self.stop_reading(shared, unread)),
        };
        if data.len() < SMALL_BYTES && !end {
            self.client.quota.piece();
        }
        let mut released = data.len();
        // Without an upstream the requests are sent when the stream begins.
        if let Some(upstream) = shared.state.upstream()
            && (end || !requests.is_empty())
        {
            let gone = upstream.member.data(upstream.stream, &requests, end);
            let waiting = requests.len() - gone;
            let of_client = waiting.min(requests.len().saturating_sub(before));
            shared.waiting += of_client;
            shared.waiting_own += waiting - of_client;
            released = data.len().saturating_sub(of_client);
        }
        self.client.release_capacity(self.stream, released);
        None
    }

    /// The stream cannot be read, or there is no memory for its state: it passes as it is, and
    /// ends with its member. Returns what has to be sent of `unread`.
    fn stop_reading(&self, shared: &mut Shared, unread: BytesMut) -> BytesMut {
        let resumed = shared.stream.as_ref().is_some_and(|one| one.resumed);
        if resumed || shared.head_sent && shared.state.upstream().is_none() {
            // Its answers would not be what the client expects.
            self.end_stream(shared);
            return unread;
        }
        if let Some(stream) = &mut shared.stream {
            match shared.state {
                CallState::Sent { .. } => shared.unrepeatable = true,
                CallState::Collecting | CallState::Searching => {
                    let sent = stream.begin();
                    self.take(shared, sent.len());
                    shared.body = sent;
                }
                CallState::Answering(_) | CallState::Shared | CallState::Finished => {}
            }
        }
        self.pass_response(shared);
        self.release_stream(shared);
        if shared.unrepeatable || shared.head_sent {
            self.forget(shared);
        }
        unread
    }

    /// Forwards what is collected of a response.
    pub(super) fn pass_response(&self, shared: &mut Shared) {
        let mut collected = BytesMut::new();
        if let Some(stream) = &mut shared.stream {
            stream.pass_response(&mut |part| collected.extend_from_slice(part));
        }
        let waits = match collected.is_empty() {
            true => 0,
            false => collected.len() - self.client.data(self.stream, &collected, false),
        };
        if waits != 0 && !self.count_unread(shared, waits) {
            self.end_stream(shared);
        }
    }

    /// Forwards data of a stream's answer. Returns the number of bytes that do not wait.
    pub(super) fn stream_answer(
        self: &Arc<Call>,
        mut guard: MutexGuard<'_, Shared>,
        data: &[u8],
        last: bool,
    ) -> usize {
        let shared = &mut *guard;
        // The stream has left this member.
        if matches!(shared.state, CallState::Shared) {
            return data.len();
        }
        let upstream = shared.state.upstream();
        let progress = upstream.and_then(|upstream| upstream.endpoint.progress());
        let Some(stream) = &mut shared.stream else {
            return data.len();
        };
        let (mut gone, mut waits) = (0, 0);
        let hub = self.hub.as_ref().and_then(Weak::upgrade);
        stream.set_progress(progress);
        let mut forward = |part: &[u8]| {
            if let Some(hub) = &hub {
                gone += part.len();
                hub.receive(part);
            } else if !part.is_empty() {
                let sent = self.client.data(self.stream, part, false);
                gone += sent;
                waits += part.len() - sent;
            }
        };
        let read = stream.responses(data, &mut forward);
        if read.is_ok() && !self.charge_response(shared.stream.as_mut()) {
            shared
                .stream
                .iter_mut()
                .for_each(|one| one.pass_response(&mut forward));
            self.charge_response(shared.stream.as_mut());
        }
        if 0 < waits && !self.count_unread(shared, waits) {
            drop(guard);
            self.reject_answer();
            return gone;
        }
        match read {
            Ok(dropped) => {
                gone += dropped;
                self.note_reached(shared);
            }
            Err(Stopped::Unreadable) => {
                self.stop_reading(shared, BytesMut::new());
            }
            Err(Stopped::Verdict(Verdict::Lagging)) => {
                if let Failed::Answering(upstream) = shared.state.fail(true) {
                    upstream.member.reset(upstream.stream, ErrorCode::CANCEL);
                    self.resume(guard, None, true);
                    return gone;
                }
            }
            Err(Stopped::Verdict(_)) => self.end_stream(shared),
        }
        if !last {
            self.move_to_hubs(guard);
        } else if !shared.state.is_finished() {
            self.pass_response(shared);
            self.finish(shared);
            self.client.data(self.stream, &[], true);
        }
        gone
    }

    /// Has a hub note what it has received.
    fn note_reached(&self, shared: &Shared) {
        let reached = shared.stream.as_ref().and_then(|stream| stream.reached());
        if let Some(hub) = self.hub.as_ref().and_then(Weak::upgrade)
            && let Some(reached) = reached
        {
            hub.note_reached(reached);
        }
    }

    /// Begins the stream on another member. `failed`: the member that failed; `lagging`: the
    /// member is behind what the client has received.
    pub(super) fn resume(
        self: &Arc<Call>,
        mut shared: MutexGuard<'_, Shared>,
        failed: Option<(Arc<Endpoint>, Failure)>,
        lagging: bool,
    ) {
        self.lose_upstream(&mut shared);
        let Some(stream) = &mut shared.stream else {
            return;
        };
        let (since, lasts) = stream.outage(Instant::now());
        if lasts && self.proxy.config.request_timeout <= since.elapsed() {
            return self.end_stream(&mut shared);
        }
        drop(shared);
        if failed.is_some() || lagging {
            self.proxy.metrics.resumed();
        }
        let call = Arc::clone(self);
        tokio::spawn(async move {
            if lasts || lagging {
                time::sleep(PAUSE).await;
            }
            let nearest = call.kind.nearest && !lagging;
            let proxy = Arc::clone(&call.proxy);
            let turns = Attempts::of_stream(&proxy, nearest, since);
            call.find_member(turns, failed).await;
        });
    }

    /// Continues the stream on another member: this one is not usable, and another one is.
    pub(in crate::h2) fn leave_lost(self: &Arc<Call>, member: &Session, stream: u32) {
        let shared = self.shared.lock();
        let resumes = shared.stream.as_ref().is_some_and(|one| one.can_resume());
        let leaves = resumes && shared.state.is_answering() && self.proxy.endpoints.any();
        drop(shared);
        if leaves {
            member.reset(stream, ErrorCode::CANCEL);
            self.failed(crate::policy::forward::gone());
        }
    }

    /// The member's stream has ended. What waited for it has been dropped, and the client's data
    /// that waited is kept as requests.
    pub(super) fn lose_upstream(&self, shared: &mut Shared) {
        shared.stale = shared.unread;
        shared.waiting_own = 0;
        let waiting = std::mem::take(&mut shared.waiting);
        if 0 < waiting {
            self.client.release_capacity(self.stream, waiting);
        }
    }

    /// Ends a stream that cannot be continued. etcd's clients begin it again.
    pub(super) fn end_stream(&self, shared: &mut Shared) {
        if shared.state.is_finished() {
            return;
        }
        let head = shared.head();
        if let Some(upstream) = self.finish(shared) {
            upstream.member.reset(upstream.stream, ErrorCode::CANCEL);
        }
        let block = trailers(UNAVAILABLE, CONNECTION_LOST, head);
        self.client.fields(self.stream, &block, true);
    }

    /// Keeps the fields for another member once the answer has begun.
    pub(super) fn keep_fields(&self, shared: &mut Shared) {
        if self.charge(shared) {
            let fields = shared.fields.clone();
            self.forget(shared);
            shared.fields = fields;
        } else {
            self.release_stream(shared);
            self.forget(shared);
        }
    }

    /// Charges what is kept of a stream. Returns whether there is enough memory.
    fn charge(&self, shared: &mut Shared) -> bool {
        let Some(stream) = &mut shared.stream else {
            return true;
        };
        let bytes = stream.bytes() + shared.fields.len() + REQUEST_BYTES;
        let (all, client) = (&self.proxy.kept_streams, &self.client.quota.kept_streams);
        let fits = match bytes.checked_sub(stream.charged) {
            Some(more) => more == 0 || memory::take(all, client, more),
            None => {
                memory::give_back(all, client, stream.charged - bytes);
                true
            }
        };
        if fits {
            stream.charged = bytes;
        }
        fits
    }

    /// Charges the collected part of a response.
    pub(super) fn charge_response(&self, stream: Option<&mut Box<stream::Stream>>) -> bool {
        let Some(stream) = stream else {
            return true;
        };
        let bytes = stream.partial_response();
        let (all, client) = (&self.proxy.unread, &self.client.quota.unread);
        let fits = match bytes.checked_sub(stream.charged_responses) {
            Some(more) => more == 0 || memory::take_unread(all, client, more),
            None => {
                memory::give_back(all, client, stream.charged_responses - bytes);
                true
            }
        };
        if fits {
            stream.charged_responses = bytes;
        }
        fits
    }

    /// Drops the state of a stream.
    pub(super) fn release_stream(&self, shared: &mut Shared) {
        let Some(stream) = shared.stream.take() else {
            return;
        };
        for (hub, _) in stream.hubs() {
            hub.remove_client(self);
        }
        // Its responses are not read any more.
        if let Some(hub) = self.hub.as_ref().and_then(Weak::upgrade) {
            hub.end();
        }
        let quota = &self.client.quota;
        memory::give_back(
            &self.proxy.kept_streams,
            &quota.kept_streams,
            stream.charged,
        );
        let collected = stream.charged_responses;
        memory::give_back(&self.proxy.unread, &quota.unread, collected);
    }
}
