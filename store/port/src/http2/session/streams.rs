//! Opens streams, and sends and receives fields and data on them.

use super::*;

impl<O: Owner> Session<O> {
    /// Accepts a stream of the peer.
    pub fn accept(&self, stream: u32, owner: O, half_closed_remote: bool) {
        let mut state = self.state.lock();
        let mut new = self.stream(&state, owner);
        new.half_closed_remote = half_closed_remote;
        state.streams.insert(stream, new);
    }

    /// Opens a stream with its fields and the first part of its body. Returns the stream and how
    /// many bytes of the body were sent.
    ///
    /// # Errors
    /// No stream can be opened on this connection, or not now.
    pub fn open(
        &self,
        owner: O,
        fields: &[u8],
        body: &[u8],
        end_stream: bool,
    ) -> Result<(u32, usize), NoStream> {
        let mut state = self.state.lock();
        if state.closing || state.closed {
            return Err(NoStream::Closed);
        }
        if !state.has_free_stream() || OUT_BYTES_MAX < state.out.len() {
            return Err(NoStream::Full);
        }
        let id = state.next_stream;
        state.next_stream += 2;
        // Stream identifiers are exhausted: the next request uses another connection (RFC 9113,
        // 5.1.1).
        state.closing = (1 << 31) <= state.next_stream;
        let mut new = self.stream(&state, owner);
        new.awaits_response = Some(Instant::now());
        new.ended = end_stream && body.is_empty();
        let ended = new.ended;
        let block = [state.table_size_update(), &self.prefix].concat();
        state.put(|out| frame::put_headers(out, id, [&block, fields], ended));
        state.streams.insert(id, new);
        state.awaiting_response += 1;
        let gone = match body.is_empty() {
            true => 0,
            false => self.send(&mut state, id, body, end_stream),
        };
        if !(end_stream && gone == body.len())
            && let Some((entry, writer)) = state.writer(id)
        {
            writer.small_frames.begun(entry);
        }
        Ok((id, gone))
    }

    fn stream(&self, state: &State<O>, owner: O) -> Stream<O> {
        let account = owner.account();
        Stream {
            owner,
            send_window_delta: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            last: None,
            scheduled: false,
            ended: false,
            half_closed_remote: false,
            recv_window: i64::from(self.windows[0]),
            unreleased: 0,
            unannounced: 0,
            starts: state.taken + state.out.len() as u64,
            awaits_response: None,
            charged: 0,
            account,
            joined: false,
        }
    }

    /// Sends data. Returns how many bytes were sent at once; the rest waits.
    pub fn data(&self, stream: u32, data: &[u8], last: bool) -> usize {
        self.send(&mut self.state.lock(), stream, data, last)
    }

    fn send(&self, state: &mut State<O>, id: u32, data: &[u8], last: bool) -> usize {
        let Some((entry, mut writer)) = state.writer(id).filter(|(entry, _)| !entry.ended) else {
            // The stream is closed.
            return data.len();
        };
        let waits = !entry.pending.is_empty();
        let gone = match waits {
            true => 0,
            false => writer.send(id, entry, data, last),
        };
        entry.keep(&data[gone..]);
        if !entry.pending.is_empty() {
            entry.last = last.then_some(Last::Data);
            state.schedule(id);
        }
        state.wake();
        self.close_if_half_closed(state, id);
        gone
    }

    /// Sends a field block: the head of a message, or its trailer section.
    pub fn fields(&self, stream: u32, block: &[u8], last: bool) {
        let mut state = self.state.lock();
        let Some(entry) = state.streams.get_mut(&stream) else {
            return;
        };
        if last && !entry.pending.is_empty() {
            entry.last = Some(Last::Trailers(Bytes::copy_from_slice(block)));
            return;
        }
        entry.ended |= last;
        let size_update = state.table_size_update();
        state.put(|out| frame::put_headers(out, stream, [size_update, block], last));
        self.close_if_half_closed(&mut state, stream);
    }

    /// HEADERS of an answer were received. Returns the owner of the stream.
    pub fn recv_headers(&self, stream: u32) -> Option<O> {
        let mut state = self.state.lock();
        let entry = state.streams.get_mut(&stream)?;
        let awaited = entry.awaits_response.take().is_some();
        let owner = entry.owner.clone();
        state.awaiting_response -= usize::from(awaited);
        state.recv_response(stream);
        Some(owner)
    }

    /// Whether a stream is open.
    pub fn has(&self, stream: u32) -> bool {
        self.state.lock().streams.contains_key(&stream)
    }

    /// Whether the peer has closed a stream, one of the last ones (RFC 9113, 5.1).
    pub fn is_closed_by_peer(&self, stream: u32) -> bool {
        self.state.lock().recent.has(stream)
    }

    /// A SETTINGS acknowledgement was received.
    pub fn recv_settings_ack(&self) {
        let mut state = self.state.lock();
        if self.role == Role::Client {
            state.put_with(|out, state| state.resets.recv_settings_ack(out));
        }
    }

    /// The number of open streams.
    pub fn streams(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Whether a stream has no waiting data.
    pub fn is_clear(&self, stream: u32) -> bool {
        let state = self.state.lock();
        let pending = |entry: &Stream<O>| !entry.pending.is_empty();
        !state.streams.get(&stream).is_some_and(pending)
    }
}
