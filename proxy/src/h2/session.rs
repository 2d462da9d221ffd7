//! An HTTP/2 connection as all who use it see it: what is to be sent, the windows, the streams.
//!
//! The task that has the socket (`driver`) reads and writes; answers and calls of other connections
//! are put in here by the tasks that they come from, so that whatever gathers between two turns of
//! the task goes out in one write. Nothing here waits: what a window does not let pass stays with its
//! stream, and the sender's own window is opened again only when it has gone.
//!
//! No lock of another connection or call is taken under this one's.

mod accounts;
mod flow;
mod life;
mod outlet;
mod pieces;
mod recent;
mod resets;
mod share;
mod state;
mod windows;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::call::Call;
use super::frame::{self, Code, Fault, Settings, WINDOW, WINDOW_MAX, setting};
use super::other::Other;
use pieces::Pieces;
pub(super) use pieces::SMALL_BYTES;
use recent::Recent;
use resets::Resets;
pub(super) use share::Share;
use windows::Windows;

/// With more than this to be sent, data waits with its stream, and nothing is read that may have to
/// be answered.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Of compression, unless the other end says otherwise. We use none, but must say so if it wants less.
const TABLE_BYTES: u32 = 4096;

/// Streams that are begun at a member before it has said how many it takes.
const STREAMS_BEFORE_SETTINGS: usize = 1000;

/// Data that waits is joined to what waits already, up to so much.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// With more than this, nothing new is begun.
const OUT_BYTES_MAX: usize = 1024 * 1024;

/// A larger buffer is not kept when it is empty.
const KEPT_BYTES: usize = 4 * 1024;

/// At which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A client has made it, for calls.
    Server,
    /// We have made it, to a member.
    Client,
}

/// Whose a stream is.
#[derive(Clone)]
pub(super) enum Owner {
    /// A call, seen from its client.
    Client(Arc<Call>),
    /// A call, seen from the member that answers it.
    Member(Arc<Call>),
    /// A request that is not a call.
    Other(Arc<Other>),
}

/// Data that had to wait has gone, so that its sender may send as much again.
pub(super) type Flowed = Vec<(Owner, usize)>;

/// A connection's shared half.
pub(crate) struct Session {
    end: End,
    /// What the other end may send on a stream, before it is let in again; and in all.
    windows: [u32; 2],
    /// The fields that every call begins with here.
    prefix: Bytes,
    /// What a client takes of the members' connections.
    pub(super) share: Share,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    /// The driver's, when it sleeps.
    waker: Option<Waker>,
    /// What the other end lets us send in all.
    window: i64,
    /// The same of streams.
    windows: Windows,
    streams_max: usize,
    /// The other end's settings have come.
    agreed: bool,
    streams: HashMap<u32, Stream>,
    /// Streams whose data waits for something that is not their own window.
    held_up: VecDeque<u32>,
    /// What the other end may still send in all.
    left: i64,
    /// Received and gone on, and not let in again yet.
    uncredited: u32,
    /// The other end has less room for compression than we need not use: it is to be told once.
    shrunk: bool,
    pieces: Pieces,
    resets: Resets,
    recent: Recent,
    next_stream: u32,
    /// Calls whose answer has not begun.
    awaiting: usize,
    /// There will be no new streams.
    closing: bool,
    closed: bool,
    /// Bytes that the driver has taken, and that the kernel has got, ever.
    taken: u64,
    written: u64,
}

struct Stream {
    owner: Owner,
    /// What the other end lets us send, beyond the initial window.
    difference: i64,
    pending: VecDeque<BytesMut>,
    /// How much that is.
    pending_bytes: usize,
    /// How we end it once nothing is pending.
    last: Option<Last>,
    /// It is in `held_up`.
    listed: bool,
    /// We have said all.
    ended: bool,
    /// The other end has.
    heard_all: bool,
    /// What the other end may still send.
    left: i64,
    /// Received and not gone on.
    held: u32,
    /// Gone on, and not let in again.
    uncredited: u32,
    /// Where it begins among all bytes that are sent.
    starts: u64,
    /// Since when its answer is awaited.
    awaits: Option<Instant>,
    /// What its small frames may have cost: `Pieces`.
    charged: u32,
    /// Whose call it is: the same for all of a client's connection.
    client: usize,
    /// It counts for its client's account.
    joined: bool,
}

impl Stream {
    /// Data that cannot go now.
    fn keep(&mut self, data: &[u8]) {
        self.pending_bytes += data.len();
        match self.pending.back_mut() {
            Some(last) if last.len() + data.len() <= JOINED_BYTES_MAX => {
                last.extend_from_slice(data);
            }
            _ if data.is_empty() => {}
            _ => self.pending.push_back(BytesMut::from(data)),
        }
    }
}

/// How a stream is ended.
enum Last {
    Data,
    Trailers(Bytes),
}

/// Why a call cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoStream {
    /// The connection has ended, or is about to.
    Closed,
    /// The other end wants no more at a time, or takes no more.
    Full,
}

impl Session {
    pub(super) fn new(end: End, windows: [u32; 2], prefix: Bytes) -> Session {
        Session {
            end,
            windows,
            prefix,
            share: Share::default(),
            state: Mutex::new(State {
                pieces: Pieces::counted(end == End::Client),
                window: i64::from(WINDOW),
                streams_max: STREAMS_BEFORE_SETTINGS,
                left: i64::from(windows[1]),
                next_stream: 1,
                ..State::default()
            }),
        }
    }

    /// Sends something that belongs to no stream's data.
    pub(super) fn put(&self, put: impl FnOnce(&mut BytesMut)) {
        self.state.lock().put(put);
    }

    /// The other end has begun a stream.
    pub(super) fn accept(&self, stream: u32, owner: Owner, heard_all: bool) {
        let mut state = self.state.lock();
        let mut new = self.stream(&state, owner);
        new.heard_all = heard_all;
        state.streams.insert(stream, new);
    }

    /// Begins a stream for a call, with its fields and what there is of its body. Returns the stream,
    /// and how much of the body has gone.
    pub(super) fn begin(
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
    pub(super) fn data(&self, stream: u32, data: &[u8], last: bool) -> usize {
        self.send(&mut self.state.lock(), stream, data, last)
    }

    fn send(&self, state: &mut State, id: u32, data: &[u8], last: bool) -> usize {
        let Some((known, mut outlet)) = state.outlet(id).filter(|(known, _)| !known.ended) else {
            // Nobody wants it any more.
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
    pub(super) fn fields(&self, stream: u32, block: &[u8], last: bool) {
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

    /// A client's stream is over when we have said all, whatever it still wants to say.
    fn said_all(&self, state: &mut State, id: u32) {
        let is_over = |known: &Stream| known.ended && self.end == End::Server;
        if state.streams.get(&id).is_some_and(is_over)
            && let Some(known) = self.remove(state, id)
        {
            match known.heard_all {
                true => state.recent.add(id),
                false => state.put(|out| frame::put_reset(out, id, Code::NO_ERROR)),
            }
        }
    }

    /// A stream of ours is over when its answer is, whatever we still had to say.
    pub(super) fn answered(&self, stream: u32) {
        let mut state = self.state.lock();
        if let Some(known) = self.remove(&mut state, stream)
            && !known.ended
        {
            state.put(|out| frame::put_reset(out, stream, Code::CANCEL));
        }
    }

    /// Ends a stream at once; nothing more is sent, and what comes is dropped.
    pub(super) fn reset(&self, stream: u32, code: Code) {
        let mut state = self.state.lock();
        let Some(known) = self.remove(&mut state, stream) else {
            return;
        };
        if self.end == End::Server || known.awaits.is_none() {
            return state.put(|out| frame::put_reset(out, stream, code));
        }
        state.put_with(|out, state| state.resets.put(out, stream));
    }

    /// The other end has ended a stream at once. Returns whose it was.
    pub(super) fn was_reset(&self, stream: u32) -> Option<Owner> {
        let mut state = self.state.lock();
        let removed = self.remove(&mut state, stream)?;
        state.recent.add(stream);
        Some(removed.owner)
    }

    /// Ends a stream of the other end over what came of it. Returns whose it was.
    pub(super) fn break_off(&self, stream: u32, code: Code) -> Option<Owner> {
        let mut state = self.state.lock();
        let removed = self.remove(&mut state, stream)?;
        state.put(|out| frame::put_reset(out, stream, code));
        Some(removed.owner)
    }

    /// Whether a stream has begun and has not ended.
    pub(super) fn has(&self, stream: u32) -> bool {
        self.state.lock().streams.contains_key(&stream)
    }

    fn remove(&self, state: &mut State, id: u32) -> Option<Stream> {
        let known = state.streams.remove(&id)?;
        state.windows.forget(id);
        state.pieces.ended(id, &known);
        if state.pieces.may_release() {
            state.wake();
        }
        state.awaiting -= usize::from(known.awaits.is_some());
        self.credit(state, known.held);
        Some(known)
    }

    /// The other end has acknowledged settings.
    pub(super) fn acknowledged(&self) {
        let mut state = self.state.lock();
        if self.end == End::Client {
            state.put_with(|out, state| state.resets.acknowledged(out));
        }
    }

    /// How many streams there are.
    pub(super) fn streams(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Whether nothing waits to be sent on a stream.
    pub(super) fn is_clear(&self, stream: u32) -> bool {
        let state = self.state.lock();
        let pending = |known: &Stream| !known.pending.is_empty();
        !state.streams.get(&stream).is_some_and(pending)
    }

    /// An answer has begun, or goes on with fields. Returns whose it is.
    pub(super) fn answers(&self, stream: u32) -> Option<Owner> {
        let mut state = self.state.lock();
        let known = state.streams.get_mut(&stream)?;
        let awaited = known.awaits.take().is_some();
        let owner = known.owner.clone();
        state.awaiting -= usize::from(awaited);
        state.heard(stream);
        Some(owner)
    }

    /// Whether there is room for what may have to be said to what is read.
    pub(super) fn has_room(&self) -> bool {
        // What members say is answers; were they not read, both ends could wait for each other.
        self.end == End::Client || self.state.lock().out.len() < UNSENT_BYTES_MAX
    }

    /// Takes what is to be sent, in exchange for an empty buffer. When there is nothing, the waker is
    /// woken as soon as there is.
    pub(super) fn take(&self, buffer: &mut BytesMut, waker: &Waker) -> Flowed {
        debug_assert!(buffer.is_empty(), "it is lost");
        let mut state = self.state.lock();
        let mut flowed = self.pump(&mut state);
        if state.out.is_empty() {
            state.waker = Some(waker.clone());
            for kept in [buffer, &mut state.out] {
                if KEPT_BYTES < kept.capacity() {
                    *kept = BytesMut::new();
                }
            }
        } else {
            state.taken += state.out.len() as u64;
            std::mem::swap(&mut state.out, buffer);
            state.pieces.taken();
            // Now that there is room, before others take it.
            flowed.extend(self.pump(&mut state));
        }
        flowed
    }

    /// The kernel has got so much.
    pub(super) fn wrote(&self, bytes: usize) {
        self.state.lock().written += bytes as u64;
    }
}

#[cfg(test)]
mod tests;
