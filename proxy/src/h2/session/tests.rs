//! The frames that a session sends, and their order.

mod resets;
mod small_frames;
mod windows;

use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::Request;

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::context::Context;
use crate::grpc_methods::Kind;
use crate::h2::call::CallHead;
use crate::h2::frame::{Frame, FrameReader};

fn proxy() -> Arc<Context> {
    let config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    Arc::new(Context::new(config, vec![]))
}

fn session(end: Role) -> Arc<Session> {
    Arc::new(Session::new(end, [1000, 4000], Bytes::new()))
}

/// A stream that a client has opened, without an answer.
fn accept(session: &Arc<Session>, stream: u32, half_closed_remote: bool) {
    let (parts, ()) = Request::new(()).into_parts();
    let client = ([127, 0, 0, 1], 1).into();
    let other = HttpRequest::new(&proxy(), session, stream, client, (parts, 0)).unwrap();
    session.accept(stream, Owner::Http(other), half_closed_remote);
}

fn begin(session: &Arc<Session>, body: &[u8], whole: bool) -> Result<(u32, usize), NoStream> {
    begin_of(&self::session(Role::Server), session, body, whole)
}

/// Opens a stream for a call of a given client.
fn begin_of(
    client: &Arc<Session>,
    session: &Arc<Session>,
    body: &[u8],
    whole: bool,
) -> Result<(u32, usize), NoStream> {
    let head = CallHead {
        fields: Bytes::from_static(b"fields"),
        kind: Kind::of("/etcdserverpb.KV/Range"),
        timeout: None,
    };
    let call = Call::new(&proxy(), client, 1, head);
    session.begin(&call, b"fields", body, whole)
}

/// The frames sent since the last call, as text; DATA by its size.
fn sent(session: &Session) -> Vec<String> {
    let mut frames_sent = vec![];
    let mut frames = FrameReader::default();
    loop {
        let mut buffer = BytesMut::new();
        session.take(&mut buffer, Waker::noop());
        if buffer.is_empty() {
            return frames_sent;
        }
        let heard = frames.take(&buffer, |event| {
            frames_sent.push(match event {
                Frame::Headers { stream, end, .. } => format!("fields {stream}{}", mark(end)),
                Frame::Data {
                    stream, end, data, ..
                } => {
                    format!("data {stream} {}{}", data.len(), mark(end))
                }
                Frame::WindowUpdate { stream, by } => format!("window {stream} {by}"),
                Frame::RstStream { stream, code } => format!("reset {stream} {}", code.0),
                Frame::SettingsAck => "ack".to_owned(),
                other => format!("{other:?}"),
            });
            Ok(())
        });
        heard.unwrap();
    }
}

fn mark(end: bool) -> &'static str {
    if end { "." } else { "" }
}

fn settings(session: &Session, number: u16, value: u32) -> Result<usize, ConnectionError> {
    let mut bytes = BytesMut::new();
    frame::put_settings(&mut bytes, &[(number, value)]);
    let mut released = Ok(0);
    let taken = FrameReader::default().take(&bytes, |event| {
        if let Frame::Settings(settings) = event {
            released = session.recv_settings(&settings).map(amount);
        }
        Ok(())
    });
    taken.and(released)
}

fn amount(released: Released) -> usize {
    released.iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn an_answer_ends_the_stream() {
    let session = session(Role::Server);
    accept(&session, 1, true);
    session.fields(1, b"head", false);
    assert_eq!(session.data(1, b"data", false), 4);
    session.fields(1, b"trailers", true);
    assert_eq!(sent(&session), ["fields 1", "data 1 4", "fields 1."]);
    assert_eq!(session.streams(), 0);
    // Data and trailers after the end are dropped.
    assert_eq!(session.data(1, b"data", false), 4);
    session.fields(1, b"trailers", true);
    assert!(sent(&session).is_empty());
}

#[test]
fn an_answer_before_the_end_of_the_request_says_that_the_rest_is_not_wanted() {
    let session = session(Role::Server);
    accept(&session, 1, false);
    session.fields(1, b"head", true);
    assert_eq!(sent(&session), ["fields 1.", "reset 1 0"]);
    let member = self::session(Role::Client);
    let (stream, gone) = begin(&member, b"first", false).unwrap();
    assert_eq!((stream, gone), (1, 5));
    member.answered(stream);
    assert_eq!(sent(&member), ["fields 1", "data 1 5", "reset 1 8"]);
}

#[test]
fn nothing_is_heard_after_the_end() {
    let session = session(Role::Server);
    accept(&session, 1, false);
    session.recv_data(1, 1, true).unwrap();
    let late = session.recv_data(1, 1, false).err().unwrap();
    assert_eq!(late.code, ErrorCode::STREAM_CLOSED);
    let member = self::session(Role::Client);
    let (stream, _) = begin(&member, b"", true).unwrap();
    let early = member.recv_data(stream, 1, false).err().unwrap();
    assert_eq!(early.code, ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn a_member_that_takes_no_more_gets_no_more() {
    let member = session(Role::Client);
    settings(&member, setting::MAX_CONCURRENT_STREAMS, 2).unwrap();
    begin(&member, b"", true).unwrap();
    let (second, _) = begin(&member, b"", true).unwrap();
    assert_eq!(begin(&member, b"", true), Err(NoStream::Full));
    member.answered(second);
    begin(&member, b"", true).unwrap();
    member.shut_down();
    assert_eq!(begin(&member, b"", true), Err(NoStream::Closed));
    assert!(!member.is_over());
}

#[test]
fn who_has_no_room_for_a_table_is_told_that_there_is_none() {
    let session = session(Role::Server);
    settings(&session, setting::HEADER_TABLE_SIZE, 100).unwrap();
    accept(&session, 1, true);
    session.fields(1, b"head", false);
    session.fields(1, b"trailers", true);
    let mut buffer = BytesMut::new();
    session.take(&mut buffer, Waker::noop());
    let mut blocks = vec![];
    let taken = FrameReader::default().take(&buffer, |event| {
        if let Frame::Headers { block, .. } = event {
            blocks.push(block.to_vec());
        }
        Ok(())
    });
    taken.unwrap();
    assert_eq!(blocks, [&b"\x20head"[..], b"trailers"]);
}

#[test]
fn what_the_kernel_never_got_was_never_sent() {
    let member = session(Role::Client);
    begin(&member, b"one", true).unwrap();
    let mut buffer = BytesMut::new();
    member.take(&mut buffer, Waker::noop());
    begin(&member, b"two", true).unwrap();
    // One byte of the first call was sent: its outcome is unknown.
    member.wrote(1);
    let mut unsent: Vec<_> = member
        .close()
        .into_iter()
        .map(|(_, unsent)| unsent)
        .collect();
    unsent.sort_unstable();
    assert_eq!(unsent, [false, true]);
    assert_eq!(begin(&member, b"", true), Err(NoStream::Closed));
}

#[test]
fn streams_that_were_not_looked_at_come_back() {
    let member = session(Role::Client);
    for _ in 0..3 {
        begin(&member, b"", true).unwrap();
    }
    assert_eq!(member.recv_goaway(1).len(), 2);
    assert!(member.awaits_response());
    assert!(member.recv_headers(1).is_some());
    assert!(!member.awaits_response());
    assert!(!member.is_open());
}
