//! Any bytes as the frames of a client: frames are the same in any pieces, and a server's session
//! sends only what the client's windows admit, each stream up to its end.

use std::collections::BTreeMap;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use keelson_port::http2::frame::{
    ConnectionError, DEFAULT_WINDOW, Frame, FrameReader, Settings, setting,
};
use keelson_port::http2::{Owner, Role, Session};

/// The receive windows of the server: of a stream, and of the connection.
const WINDOWS: [u32; 2] = [1000, DEFAULT_WINDOW];

/// An answer is so much longer than its request.
const ANSWER_FACTOR: usize = 10_000;

/// The target. The first byte is the size of the pieces.
pub fn run(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    assert_eq!(
        frames(bytes, piece),
        frames(bytes, bytes.len().max(1)),
        "frames depend on the pieces"
    );
    let mut server = Server::new();
    let mut reader = FrameReader::default();
    let _ = bytes
        .chunks(piece)
        .try_for_each(|piece| reader.read(piece, |frame| server.take(&frame)));
    server.session.close();
}

/// The frames as text, and the error at their end.
fn frames(bytes: &[u8], piece: usize) -> (Vec<String>, Option<ConnectionError>) {
    let mut reader = FrameReader::default();
    let mut frames = vec![];
    let mut each = |frame: Frame<'_>| {
        frames.push(format!("{frame:?}"));
        Ok(())
    };
    let mut pieces = bytes.chunks(piece);
    let error = pieces.find_map(|piece| reader.read(piece, &mut each).err());
    (frames, error)
}

#[derive(Clone)]
struct Stream;

impl Owner for Stream {
    fn sent(&self, _bytes: usize) {}
}

/// A server that answers each request once it has ended, and the client's view of its windows.
struct Server {
    session: Session<Stream>,
    last: u32,
    /// The bytes of each request.
    requests: BTreeMap<u32, usize>,
    initial: i64,
    connection: i64,
    /// The windows of the streams that the server has not ended.
    streams: BTreeMap<u32, i64>,
    sent: FrameReader,
}

impl Server {
    fn new() -> Server {
        Server {
            session: Session::new(Role::Server, WINDOWS, Bytes::new()),
            last: 0,
            requests: BTreeMap::new(),
            initial: i64::from(DEFAULT_WINDOW),
            connection: i64::from(DEFAULT_WINDOW),
            streams: BTreeMap::new(),
            sent: FrameReader::default(),
        }
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), ConnectionError> {
        match frame {
            Frame::Headers { stream, end, block } => self.headers(*stream, *end, block.len()),
            Frame::Data {
                stream,
                end,
                data,
                flow_controlled_len,
            } => {
                let open = self
                    .session
                    .recv_data(*stream, *flow_controlled_len, *end)?;
                let length = *flow_controlled_len as usize;
                self.session.release_capacity(*stream, length);
                *self.requests.entry(*stream).or_default() += data.len();
                if open.is_some() && *end {
                    self.answer(*stream);
                }
            }
            Frame::RstStream { stream, .. } => {
                self.session.recv_reset(*stream);
                self.streams.remove(stream);
            }
            Frame::Settings(settings) => self.settings(settings)?,
            Frame::WindowUpdate { stream, increment } => {
                self.session.recv_window_update(*stream, *increment)?;
                let increment = i64::from(*increment);
                match stream {
                    0 => self.connection += increment,
                    id => {
                        if let Some(window) = self.streams.get_mut(id) {
                            *window += increment;
                        }
                    }
                }
            }
            Frame::GoAway { last, .. } => {
                self.session.recv_goaway(*last);
            }
            _ => {}
        }
        self.check_sent();
        Ok(())
    }

    fn headers(&mut self, stream: u32, end: bool, length: usize) {
        if stream <= self.last || stream.is_multiple_of(2) || !self.session.is_open() {
            return;
        }
        self.last = stream;
        self.session.accept(stream, Stream, end);
        self.streams.insert(stream, self.initial);
        self.requests.insert(stream, length);
        if end {
            self.answer(stream);
        }
    }

    fn answer(&mut self, stream: u32) {
        let length = self.requests.remove(&stream).unwrap_or_default();
        self.session.fields(stream, b"\x88", false);
        let data = vec![0; length * ANSWER_FACTOR];
        self.session.data(stream, &data, !length.is_multiple_of(2));
        if length.is_multiple_of(2) {
            self.session.fields(stream, b"\x88", true);
        }
    }

    fn settings(&mut self, settings: &Settings<'_>) -> Result<(), ConnectionError> {
        self.session.recv_settings(settings)?;
        for (identifier, value) in settings.iter() {
            if identifier == setting::INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.initial;
                self.initial += change;
                self.streams
                    .values_mut()
                    .for_each(|window| *window += change);
            }
        }
        Ok(())
    }

    /// Reads all that the server sends now.
    fn check_sent(&mut self) {
        loop {
            let mut out = BytesMut::new();
            self.session.take(&mut out, Waker::noop());
            if out.is_empty() {
                return;
            }
            let (streams, connection) = (&mut self.streams, &mut self.connection);
            let read = self.sent.read(&out, |frame| {
                match frame {
                    Frame::Data {
                        stream, end, data, ..
                    } => {
                        let window = streams.get_mut(&stream).expect("data after the end");
                        *window -= data.len() as i64;
                        *connection -= data.len() as i64;
                        assert!(data.is_empty() || 0 <= *window, "a stream's window");
                        assert!(
                            data.is_empty() || 0 <= *connection,
                            "the connection's window"
                        );
                        if end {
                            streams.remove(&stream);
                        }
                    }
                    Frame::Headers { stream, end, .. } => {
                        assert!(streams.contains_key(&stream), "fields after the end");
                        if end {
                            streams.remove(&stream);
                        }
                    }
                    Frame::RstStream { stream, .. } => {
                        streams.remove(&stream);
                    }
                    _ => {}
                }
                Ok(())
            });
            read.expect("frames that can be read");
        }
    }
}
