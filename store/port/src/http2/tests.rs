//! RFC 9113 without IO: frames and a session, with the error codes that the RFC names.

use bytes::{Bytes, BytesMut};

use super::driver::dispatch;
use super::frame::{
    ConnectionError, DEFAULT_WINDOW, ErrorCode, Frame, FrameReader, MAX_FRAME_SIZE, MAX_WINDOW,
    put_data, put_headers, put_rst_stream, put_settings, put_window_update, setting,
};
use super::*;

#[derive(Clone)]
struct Unowned;

impl Owner for Unowned {
    fn sent(&self, _bytes: usize) {}
}

/// A server that accepts all streams and reads no data.
struct Server {
    session: Session<Unowned>,
    last: u32,
}

impl Handler for Server {
    type Owner = Unowned;

    fn session(&self) -> &Session<Unowned> {
        &self.session
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), ConnectionError> {
        match frame {
            Frame::Headers { stream, end, .. } => {
                self.last = stream;
                self.session.accept(stream, Unowned, end);
            }
            Frame::Data {
                stream,
                end,
                flow_controlled_len,
                ..
            } => {
                self.session.recv_data(stream, flow_controlled_len, end)?;
            }
            Frame::RstStream { stream, .. } => {
                self.session.recv_reset(stream);
            }
            Frame::StreamError { stream } => {
                let code = ErrorCode::PROTOCOL_ERROR;
                self.session.reset_with_error(stream, code);
            }
            _ => {}
        }
        Ok(())
    }

    fn last_stream(&self) -> u32 {
        self.last
    }

    fn is_idle(&self, stream: u32) -> bool {
        self.last < stream
    }

    fn keepalive(&self) -> Option<(std::time::Duration, std::time::Duration)> {
        None
    }
}

/// The connection error of these bytes, or the frames that the server has sent.
fn served(bytes: &[u8]) -> Result<Vec<String>, ErrorCode> {
    let mut server = Server {
        session: Session::new(Role::Server, [DEFAULT_WINDOW, 100_000], Bytes::new()),
        last: 0,
    };
    let read = FrameReader::default().read(bytes, |frame| dispatch(&mut server, frame));
    read.map_err(|error| error.code)?;
    let mut sent = BytesMut::new();
    server.session.take(&mut sent, std::task::Waker::noop());
    let mut frames = vec![];
    let read = FrameReader::default().read(&sent, |frame| {
        frames.push(format!("{frame:?}"));
        Ok(())
    });
    read.map_err(|error| error.code).map(|()| frames)
}

/// Bytes that these calls write.
fn frames(put: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut bytes = BytesMut::new();
    put(&mut bytes);
    bytes
}

fn request(out: &mut BytesMut, stream: u32, end: bool) {
    put_headers(out, stream, [b"\x82", &[]], end);
}

#[test]
fn settings_and_windows_have_the_errors_of_the_rfc() {
    let too_large = MAX_WINDOW as u32;
    let cases = [
        (setting::ENABLE_PUSH, 2, ErrorCode::PROTOCOL_ERROR),
        (
            setting::INITIAL_WINDOW_SIZE,
            1 << 31,
            ErrorCode::FLOW_CONTROL_ERROR,
        ),
        (setting::MAX_FRAME_SIZE, 16_383, ErrorCode::PROTOCOL_ERROR),
        (setting::MAX_FRAME_SIZE, 1 << 24, ErrorCode::PROTOCOL_ERROR),
    ];
    for (identifier, value, code) in cases {
        let sent = frames(|out| put_settings(out, &[(identifier, value)]));
        assert_eq!(served(&sent), Err(code), "{identifier} {value}");
    }
    for stream in [0, 1] {
        let sent = frames(|out| {
            request(out, 1, false);
            put_window_update(out, stream, too_large);
        });
        assert_eq!(
            served(&sent),
            Err(ErrorCode::FLOW_CONTROL_ERROR),
            "{stream}"
        );
    }
    let sent = frames(|out| {
        request(out, 1, false);
        put_window_update(out, 1, too_large - DEFAULT_WINDOW);
        put_settings(out, &[(setting::INITIAL_WINDOW_SIZE, DEFAULT_WINDOW + 1)]);
    });
    assert_eq!(served(&sent), Err(ErrorCode::FLOW_CONTROL_ERROR));
    let idle = frames(|out| put_window_update(out, 1, 1));
    assert_eq!(served(&idle), Err(ErrorCode::PROTOCOL_ERROR));
}

#[test]
fn data_beyond_a_window_ends_the_connection() {
    let part = [0; MAX_FRAME_SIZE];
    // Four parts exceed a stream's window, and seven on two streams the connection's.
    for (streams, parts, ends) in [(1, 3, false), (1, 4, true), (2, 3, false), (3, 7, true)] {
        let sent = frames(|out| {
            for n in 0..streams {
                request(out, 2 * n + 1, false);
            }
            for part_of in 0..parts {
                put_data(out, 2 * (part_of % streams) + 1, &part, false);
            }
        });
        let expected = Err(ErrorCode::FLOW_CONTROL_ERROR);
        assert_eq!(served(&sent) == expected, ends, "{streams} {parts}");
    }
}

#[test]
fn a_stream_that_the_client_has_closed_takes_no_data() {
    for reset in [false, true] {
        let sent = frames(|out| {
            request(out, 1, !reset);
            if reset {
                put_rst_stream(out, 1, ErrorCode::CANCEL);
            }
            put_data(out, 1, b"x", false);
        });
        assert_eq!(served(&sent), Err(ErrorCode::STREAM_CLOSED), "{reset}");
    }
}

#[test]
fn a_stream_error_resets_its_stream_alone() {
    let sent = frames(|out| {
        request(out, 1, false);
        request(out, 3, false);
        put_window_update(out, 1, 0);
    });
    let reset = "RstStream { stream: 1, code: ErrorCode(1) }".to_owned();
    assert_eq!(served(&sent), Ok(vec![reset]));
}

#[test]
fn settings_and_pings_are_acknowledged_in_order() {
    let sent = frames(|out| {
        put_settings(out, &[]);
        super::frame::put_ping(out, *b"abcdefgh", false);
        put_settings(out, &[(99, 7)]);
    });
    let ping = "PingAck([97, 98, 99, 100, 101, 102, 103, 104])";
    let expected = ["SettingsAck", ping, "SettingsAck"].map(str::to_owned);
    assert_eq!(served(&sent), Ok(expected.into()));
}
