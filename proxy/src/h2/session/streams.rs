//! Streams begin, and fields and data pass on them.

use super::*;

impl Session {
    /// The other end has begun a stream.
    pub(in crate::h2) fn accept(&self, stream: u32, owner: Owner, heard_all: bool) {
        let mut state = self.state.lock();
        let mut new = self.stream(&state, owner);
        new.heard_all = heard_all;
        state.streams.insert(stream, new);
    }

    /// Begins a stream for a call, with its fields and what there is of its body. Returns the
    /// stream, and how much of the body has gone.
    pub(in crate::h2) fn begin(
        &self,
        call: &Arc<Call>,
        fields: &[u8],
        body: &[u8],
        whole: bool,
    ) -> Result<(u32, usize), NoStream> {
        let mut state = self.state.lock();
        if state.closing || state.closed {
            return Err(NoStream::Closed);
        }
        if !state.has_place() || OUT_BYTES_MAX < state.out.len() {
            return Err(NoStream::Full);
        }
        let id = state.next_stream;
        state.next_stream += 2;
        // After the last number there is; calls make another connection then.
        state.closing = (1 << 31) <= state.next_stream;
        let mut new = self.stream(&state, Owner::Member(Arc::clone(call)));
        new.awaits = Some(Instant::now());
        new.ended = whole && body.is_empty();
        let ended = new.ended;
        let block = [state.lead(), &self.prefix].concat();
        state.put(|out| frame::put_headers(out, id, [&block, fields], ended));
        state.streams.insert(id, new);
        state.awaiting += 1;
        let gone = match body.is_empty() {
            true => 0,
            false => self.send(&mut state, id, body, whole),
        };
        if !(whole && gone == body.len())
            && let Some((known, outlet)) = state.outlet(id)
        {
            outlet.pieces.begun(known);
        }
        Ok((id, gone))
    }

    fn stream(&self, state: &State, owner: Owner) -> Stream {
        let client = match &owner {
            Owner::Member(call) => call.client(),
            Owner::Client(_) | Owner::Other(_) => 0,
        };
        Stream {
            owner,
            difference: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            last: None,
            listed: false,
            ended: false,
            heard_all: false,
            left: i64::from(self.windows[0]),
            held: 0,
            uncredited: 0,
            starts: state.taken + state.out.len() as u64,
            awaits: None,
            charged: 0,
            client,
            joined: false,
        }
    }

    /// Sends data. Returns how much of it has gone; the rest goes when it may.
    pub(in crate::h2) fn data(&self, stream: u32, data: &[u8], last: bool) -> usize {
        self.send(&mut self.state.lock(), stream, data, last)
    }

    fn send(&self, state: &mut State, id: u32, data: &[u8], last: bool) -> usize {
        let Some((known, mut outlet)) = state.outlet(id).filter(|(known, _)| !known.ended) else {
            // The stream has ended.
            return data.len();
        };
        let waits = !known.pending.is_empty();
        let gone = match waits {
            true => 0,
            false => outlet.send(id, known, data, last),
        };
        known.keep(&data[gone..]);
        if !known.pending.is_empty() {
            known.last = last.then_some(Last::Data);
            state.list(id);
        }
        state.wake();
        self.said_all(state, id);
        gone
    }

    /// Sends fields: before all data, or after it.
    pub(in crate::h2) fn fields(&self, stream: u32, block: &[u8], last: bool) {
        let mut state = self.state.lock();
        let Some(known) = state.streams.get_mut(&stream) else {
            return;
        };
        if last && !known.pending.is_empty() {
            known.last = Some(Last::Trailers(Bytes::copy_from_slice(block)));
            return;
        }
        known.ended |= last;
        let lead = state.lead();
        state.put(|out| frame::put_headers(out, stream, [lead, block], last));
        self.said_all(&mut state, stream);
    }

    /// An answer has begun, or goes on with fields. Returns whose it is.
    pub(in crate::h2) fn answers(&self, stream: u32) -> Option<Owner> {
        let mut state = self.state.lock();
        let known = state.streams.get_mut(&stream)?;
        let awaited = known.awaits.take().is_some();
        let owner = known.owner.clone();
        state.awaiting -= usize::from(awaited);
        state.heard(stream);
        Some(owner)
    }

    /// Whether a stream has begun and has not ended.
    pub(in crate::h2) fn has(&self, stream: u32) -> bool {
        self.state.lock().streams.contains_key(&stream)
    }

    /// The other end has acknowledged settings.
    pub(in crate::h2) fn acknowledged(&self) {
        let mut state = self.state.lock();
        if self.end == End::Client {
            state.put_with(|out, state| state.resets.acknowledged(out));
        }
    }

    /// How many streams there are.
    pub(in crate::h2) fn streams(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Whether nothing waits to be sent on a stream.
    pub(in crate::h2) fn is_clear(&self, stream: u32) -> bool {
        let state = self.state.lock();
        let pending = |known: &Stream| !known.pending.is_empty();
        !state.streams.get(&stream).is_some_and(pending)
    }
}
