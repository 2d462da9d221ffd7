//! Responses, as they come from a member.
//!
//! A response is read while it passes. Small ones are collected until they are complete, so that a
//! member that fails in the middle leaves no trace. A larger one passes in parts.

use bytes::BytesMut;

use super::Unreadable;
use super::prefix::PrefixReader;
use super::protobuf::{Scanner, Visitor};
use crate::policy::resumption::{StreamResponse, Verdict};

/// The part of a response that is collected: half a stream's window.
const COLLECTED_BYTES_MAX: usize = 64 * 1024;

/// The path of the header in a response, and of an event and its key-value pair.
const HEADER: &[u64] = &[1];
const EVENT: &[u64] = &[11];
const KEY_VALUE: &[u64] = &[11, 2];

/// The fields of a response, of either method.
#[derive(Default)]
pub(super) struct ResponseVisitor(pub(super) StreamResponse);

impl Visitor for ResponseVisitor {
    fn enters(&mut self, path: &[u64]) -> bool {
        self.0.has_events |= path == EVENT;
        matches!(path, HEADER | EVENT | KEY_VALUE)
    }

    fn varint(&mut self, path: &[u64], value: u64) {
        let response = &mut self.0;
        match path {
            [1, 1] => response.header.cluster_id = value,
            [1, 2] => response.header.member_id = value,
            [1, 3] => response.header.revision = value.cast_signed(),
            [1, 4] => response.header.raft_term = value,
            [2] => response.watch_id = value.cast_signed(),
            [3] => response.created = value != 0,
            [4] => response.canceled = value != 0,
            [7] => response.fragment = value != 0,
            [11, 2, 3] => {
                response.last_revision = response.last_revision.max(value.cast_signed());
            }
            _ => {}
        }
    }
}

/// Divides what a member sends into messages.
#[derive(Default)]
pub(crate) struct ResponseReader {
    /// The message has begun, and its prefix is complete.
    in_message: bool,
    prefix: PrefixReader,
    scanner: Scanner,
    fields: ResponseVisitor,
    /// What has been received of the message and waits for the rest.
    collected: BytesMut,
    /// The first part of the message has been forwarded.
    passing: bool,
}

/// Why no more is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopped {
    /// The verdict on a response, which was not forwarded.
    Verdict(Verdict),
    /// The rest is to be forwarded as it is.
    Unreadable,
}

impl ResponseReader {
    /// Takes data, and forwards what `judge` admits. Returns the number of bytes that were
    /// dropped.
    pub(crate) fn read(
        &mut self,
        data: &[u8],
        judge: &mut impl FnMut(&StreamResponse) -> Verdict,
        forward: &mut impl FnMut(&[u8]),
    ) -> Result<usize, Stopped> {
        let mut dropped = 0;
        // The bytes before `run` are done, those up to `begin` are complete messages.
        let (mut run, mut begin, mut at) = (0, 0, 0);
        while at < data.len() {
            match self.scan(&data[at..]) {
                Ok(length) => at += length,
                Err(Unreadable) => {
                    self.flush(forward);
                    forward(&data[run..]);
                    return Err(Stopped::Unreadable);
                }
            }
            if !self.is_complete() {
                continue;
            }
            self.in_message = false;
            let response = std::mem::take(&mut self.fields).0;
            match judge(&response) {
                Verdict::Forward => self.flush(forward),
                // Nothing of it can be taken back.
                _ if std::mem::take(&mut self.passing) => {
                    return Err(Stopped::Verdict(Verdict::Inexact));
                }
                Verdict::Drop => {
                    forward(&data[run..begin]);
                    dropped += self.collected.len() + at - begin;
                    self.collected = BytesMut::new();
                    run = at;
                }
                verdict => {
                    forward(&data[run..begin]);
                    return Err(Stopped::Verdict(verdict));
                }
            }
            self.passing = false;
            begin = at;
        }
        if self.passing {
            forward(&data[run..]);
            return Ok(dropped);
        }
        forward(&data[run..begin]);
        self.collected.extend_from_slice(&data[begin..]);
        if COLLECTED_BYTES_MAX < self.collected.len() {
            self.pass(forward);
        }
        Ok(dropped)
    }

    /// Scans a prefix or a part of a message. Returns the number of bytes.
    fn scan(&mut self, data: &[u8]) -> Result<usize, Unreadable> {
        if self.in_message {
            return self.scanner.read(data, &mut self.fields);
        }
        let (read, length) = self.prefix.read(data)?;
        if let Some(length) = length {
            self.in_message = true;
            self.scanner.begin(length.into());
        }
        Ok(read)
    }

    fn is_complete(&self) -> bool {
        self.in_message && self.scanner.is_over()
    }

    fn flush(&mut self, forward: &mut impl FnMut(&[u8])) {
        if !self.collected.is_empty() {
            forward(&std::mem::take(&mut self.collected));
        }
    }

    /// The message passes in parts from now on.
    pub(crate) fn pass(&mut self, forward: &mut impl FnMut(&[u8])) {
        self.passing |= !self.collected.is_empty();
        self.flush(forward);
    }

    /// Whether a part of a message has been forwarded.
    pub(crate) fn is_passing(&self) -> bool {
        self.passing
    }

    /// The bytes that are collected.
    pub(crate) fn collected(&self) -> usize {
        self.collected.len()
    }
}
