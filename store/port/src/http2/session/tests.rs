//! The frames that a session sends, and their order.

mod resets;
mod small_frames;
mod windows;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::http2::frame::{Frame, FrameReader};

/// A client of the small-frame budget.
#[derive(Clone, Debug, Default)]
pub(super) struct Account(Arc<AtomicBool>);

impl Account {
    /// Whether it has used much of the budget.
    pub(super) fn used_much(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Owner for Account {
    fn sent(&self, _bytes: usize) {}

    fn account(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    fn uses_much(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn session(role: Role) -> Session<Account> {
    Session::new(role, [1000, 4000], Bytes::new())
}

/// A stream that a client has opened, without an answer.
fn accept(session: &Session<Account>, stream: u32, half_closed_remote: bool) {
    session.accept(stream, Account::default(), half_closed_remote);
}

fn open(
    session: &Session<Account>,
    body: &[u8],
    end_stream: bool,
) -> Result<(u32, usize), NoStream> {
    session.open(Account::default(), b"fields", body, end_stream)
}

/// Opens a stream of a given client.
fn open_of(
    account: &Account,
    session: &Session<Account>,
    body: &[u8],
    end_stream: bool,
) -> Result<(u32, usize), NoStream> {
    session.open(account.clone(), b"fields", body, end_stream)
}

/// The frames sent since the last call, as text; DATA by its size.
fn sent(session: &Session<Account>) -> Vec<String> {
    let mut frames_sent = vec![];
    let mut frames = FrameReader::default();
    loop {
        let mut buffer = BytesMut::new();
        session.take(&mut buffer, Waker::noop());
        if buffer.is_empty() {
            return frames_sent;
        }
        let heard = frames.read(&buffer, |event| {
            frames_sent.push(match event {
                Frame::Headers { stream, end, .. } => format!("fields {stream}{}", mark(end)),
                Frame::Data {
                    stream, end, data, ..
                } => {
                    format!("data {stream} {}{}", data.len(), mark(end))
                }
                Frame::WindowUpdate { stream, increment } => format!("window {stream} {increment}"),
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

fn settings(session: &Session<Account>, number: u16, value: u32) -> Result<usize, ConnectionError> {
    let mut bytes = BytesMut::new();
    frame::put_settings(&mut bytes, &[(number, value)]);
    let mut released = Ok(0);
    let taken = FrameReader::default().read(&bytes, |event| {
        if let Frame::Settings(settings) = event {
            released = session.recv_settings(&settings).map(amount);
        }
        Ok(())
    });
    taken.and(released)
}

fn amount(released: Released<Account>) -> usize {
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
    let (stream, gone) = open(&member, b"first", false).unwrap();
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
    let (stream, _) = open(&member, b"", true).unwrap();
    let early = member.recv_data(stream, 1, false).err().unwrap();
    assert_eq!(early.code, ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn a_member_that_takes_no_more_gets_no_more() {
    let member = session(Role::Client);
    settings(&member, setting::MAX_CONCURRENT_STREAMS, 2).unwrap();
    open(&member, b"", true).unwrap();
    let (second, _) = open(&member, b"", true).unwrap();
    assert_eq!(open(&member, b"", true), Err(NoStream::Full));
    member.answered(second);
    open(&member, b"", true).unwrap();
    member.shut_down();
    assert_eq!(open(&member, b"", true), Err(NoStream::Closed));
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
    let taken = FrameReader::default().read(&buffer, |event| {
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
    open(&member, b"one", true).unwrap();
    let mut buffer = BytesMut::new();
    member.take(&mut buffer, Waker::noop());
    open(&member, b"two", true).unwrap();
    // One byte of the first call was sent: its outcome is unknown.
    member.wrote(1);
    let mut unsent: Vec<_> = member
        .close()
        .into_iter()
        .map(|(_, unsent)| unsent)
        .collect();
    unsent.sort_unstable();
    assert_eq!(unsent, [false, true]);
    assert_eq!(open(&member, b"", true), Err(NoStream::Closed));
}

#[test]
fn streams_that_were_not_looked_at_come_back() {
    let member = session(Role::Client);
    for _ in 0..3 {
        open(&member, b"", true).unwrap();
    }
    assert_eq!(member.recv_goaway(1).len(), 2);
    assert!(member.awaits_response());
    assert!(member.recv_headers(1).is_some());
    assert!(!member.awaits_response());
    assert!(!member.is_open());
}
