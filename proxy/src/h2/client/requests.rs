//! A client's requests as they come.

use bytes::BytesMut;
use http::StatusCode;
use keelson_port::hpack::{self, DecodeError};

use super::*;
use crate::answers::Refusal;
use crate::grpc_methods;
use crate::h2::call::{Asked, Call};
use crate::h2::other::Other;
use crate::http1::body::AnswerBody;
use crate::mode::Mode;

impl Client {
    pub(super) fn headers(&mut self, stream: u32, end: bool, block: &[u8]) -> Result<(), Fault> {
        let id = self.proxy.id.as_bytes();
        let fields = &mut self.fields;
        fields.clear();
        let each = |name: &[u8], value: &[u8], sensitive| fields.add(id, name, value, sensitive);
        let decoded = self.decoder.decode(block, self.fields_bytes_max, each);
        if matches!(decoded, Err(DecodeError::Malformed)) {
            return Err(Fault::new(Code::COMPRESSION_ERROR, "malformed fields"));
        }
        if self.skipped.contains(&stream) {
            return Err(Fault::protocol("a stream begins after a later one"));
        }
        if stream <= self.last {
            if decoded.is_ok() && !self.fields.are_trailers() {
                return self.break_off(stream);
            }
            return self.trailers(stream, end);
        }
        if stream.is_multiple_of(2) {
            return Err(Fault::protocol("a client's streams have odd numbers"));
        }
        if !self.session.is_open() {
            // The client has had a GOAWAY; it begins the request on another connection.
            return Ok(());
        }
        self.skipped = self.last + 1..stream;
        self.last = stream;
        let length = self.fields.length.filter(|_| decoded.is_ok());
        if self.streams_max <= self.session.streams() {
            self.refuse(stream, Code::REFUSED_STREAM);
            return self.count_reset();
        } else if decoded.is_err() {
            self.answer(stream, end, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        } else if !self.fields.are_well_formed() || end && length.is_some_and(|one| one != 0) {
            self.refuse(stream, Code::PROTOCOL_ERROR);
        } else if self.fields.is_call() {
            self.call(stream, end);
        } else {
            self.other(stream, end);
        }
        if let Some(length) = length.filter(|_| !end) {
            let streams = self.session.streams();
            self.lengths
                .keep(2 * streams, |stream| self.session.has(stream));
            self.lengths.begin(stream, length);
        }
        Ok(())
    }

    fn refuse(&self, stream: u32, code: Code) {
        self.session.put(|out| frame::put_reset(out, stream, code));
    }

    /// Answers with a status alone; nothing was done.
    fn answer(&self, stream: u32, end: bool, status: StatusCode) {
        let mut block = BytesMut::new();
        hpack::put_field(&mut block, b":status", status.as_str().as_bytes(), false);
        self.session.put(|out| {
            frame::put_headers(out, stream, [&block, &[]], true);
            if !end {
                frame::put_reset(out, stream, Code::NO_ERROR);
            }
        });
    }

    /// The fields of trailers have no use here, but that the request ends has.
    fn trailers(&mut self, stream: u32, end: bool) -> Result<(), Fault> {
        match end {
            true => self.data(stream, true, &[], 0),
            false => Err(Fault::protocol("fields in the middle of a request")),
        }
    }

    fn call(&mut self, stream: u32, end: bool) {
        let path = std::str::from_utf8(&self.fields.path).unwrap_or_default();
        let kind = grpc_methods::Kind::of(path);
        let asked = Asked {
            fields: self.fields.of_call(&self.ip, self.proxy.id.as_bytes()),
            kind,
            patience: self.fields.patience,
        };
        let call = Call::new(&self.proxy, &self.session, stream, asked);
        let owner = Owner::Client(Arc::clone(&call));
        self.session.accept(stream, owner, end);
        if !call.take_room() {
            return;
        }
        self.due = self.due.into_iter().chain(call.due(end)).min();
        if self.proxy.config.mode == Mode::ReadOnly && !kind.read {
            call.forbid();
        } else if self.fields.seen_before {
            call.refuse(Refusal::Loop);
        } else {
            call.begin(end);
        }
    }

    fn other(&mut self, stream: u32, end: bool) {
        let bytes = self.fields.bytes();
        let Some(parts) = self.fields.of_other() else {
            return self.refuse(stream, Code::PROTOCOL_ERROR);
        };
        let access = &self.proxy.config.limits.access;
        let misdirected = access.misdirected(&parts).filter(|_| !self.secure);
        let head = (parts, bytes);
        let Some(other) = Other::new(&self.proxy, &self.session, stream, self.address, head) else {
            return self.answer(stream, end, StatusCode::SERVICE_UNAVAILABLE);
        };
        let owner = Owner::Other(Arc::clone(&other));
        self.session.accept(stream, owner, end);
        match misdirected {
            Some(refused) => other.refuse(refused.map(AnswerBody::Whole)),
            None => other.data(&[], end),
        }
    }

    pub(super) fn data(
        &mut self,
        stream: u32,
        end: bool,
        data: &[u8],
        flow: u32,
    ) -> Result<(), Fault> {
        if self.is_idle(stream) {
            return Err(Fault::protocol("data of a request that has not begun"));
        }
        let owner = self.session.received(stream, flow, end)?;
        let padding = flow as usize - data.len();
        if 0 < padding {
            self.session.consumed(stream, padding);
        }
        if !self.lengths.are_kept(stream, data.len(), end) {
            return self.break_off(stream);
        }
        match owner {
            Some(Owner::Client(call)) => call.data(data, end),
            Some(Owner::Other(other)) => other.data(data, end),
            Some(Owner::Member(_)) | None => {}
        }
        Ok(())
    }
}
