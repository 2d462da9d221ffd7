//! The requests of a client: HEADERS and DATA.

use bytes::BytesMut;
use http::StatusCode;
use keelson_port::hpack::{self, DecodeError};

use super::*;
use crate::answers::Refusal;
use crate::grpc_methods;
use crate::h2::call::{Call, CallHead};
use crate::h2::other::HttpRequest;
use crate::http1::body::AnswerBody;
use crate::mode::Mode;

impl Client {
    pub(super) fn headers(
        &mut self,
        stream: u32,
        end: bool,
        block: &[u8],
    ) -> Result<(), ConnectionError> {
        let id = self.proxy.id.as_bytes();
        let fields = &mut self.fields;
        fields.clear();
        let each = |name: &[u8], value: &[u8], sensitive| fields.add(id, name, value, sensitive);
        let decoded = self.decoder.decode(block, self.fields_bytes_max, each);
        if matches!(decoded, Err(DecodeError::Malformed)) {
            return Err(ConnectionError::new(
                ErrorCode::COMPRESSION_ERROR,
                "malformed fields",
            ));
        }
        if self.skipped.contains(&stream) {
            return Err(ConnectionError::protocol(
                "a stream begins after a later one",
            ));
        }
        if stream <= self.last_stream {
            if self.session.is_closed_by_peer(stream) {
                let reason = "fields after the end";
                return Err(ConnectionError::new(ErrorCode::STREAM_CLOSED, reason));
            }
            if decoded.is_ok() && !self.fields.are_trailers() {
                return self.reset_with_error(stream);
            }
            return self.trailers(stream, end);
        }
        if stream.is_multiple_of(2) {
            return Err(ConnectionError::protocol(
                "a client's streams have odd numbers",
            ));
        }
        if !self.session.is_open() {
            // After GOAWAY the client repeats the request on another connection.
            return Ok(());
        }
        self.skipped = self.last_stream + 1..stream;
        self.last_stream = stream;
        let length = self.fields.length.filter(|_| decoded.is_ok());
        if self.streams_max <= self.session.streams() {
            self.refuse(stream, ErrorCode::REFUSED_STREAM);
            return self.count_reset();
        } else if decoded.is_err() {
            self.answer(stream, end, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        } else if !self.fields.are_well_formed() || end && length.is_some_and(|one| one != 0) {
            self.refuse(stream, ErrorCode::PROTOCOL_ERROR);
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

    fn refuse(&self, stream: u32, code: ErrorCode) {
        self.session
            .put(|out| frame::put_rst_stream(out, stream, code));
    }

    /// Answers with a status and no body.
    fn answer(&self, stream: u32, end: bool, status: StatusCode) {
        let mut block = BytesMut::new();
        hpack::put_field(&mut block, b":status", status.as_str().as_bytes(), false);
        self.session.put(|out| {
            frame::put_headers(out, stream, [&block, &[]], true);
            if !end {
                frame::put_rst_stream(out, stream, ErrorCode::NO_ERROR);
            }
        });
    }

    /// The trailer section of a request ends it; its fields are dropped.
    fn trailers(&mut self, stream: u32, end: bool) -> Result<(), ConnectionError> {
        match end {
            true => self.data(stream, true, &[], 0),
            false => Err(ConnectionError::protocol(
                "fields in the middle of a request",
            )),
        }
    }

    fn call(&mut self, stream: u32, end: bool) {
        let path = std::str::from_utf8(&self.fields.path).unwrap_or_default();
        let kind = grpc_methods::Kind::of(path);
        let head = CallHead {
            fields: self.fields.of_call(&self.ip, self.proxy.id.as_bytes()),
            kind,
            timeout: self.fields.timeout,
        };
        let call = Call::new(&self.proxy, &self.session, stream, head);
        let owner = Owner::Client(Arc::clone(&call));
        self.session.accept(stream, owner, end);
        if !call.reserve_memory() {
            return;
        }
        self.due = self.due.into_iter().chain(call.due(end)).min();
        if self.proxy.config.mode == Mode::ReadOnly && !kind.read {
            call.forbid();
        } else if self.fields.passed_before {
            call.refuse(Refusal::Loop);
        } else {
            call.begin(end);
        }
    }

    fn other(&mut self, stream: u32, end: bool) {
        let bytes = self.fields.bytes();
        let Some(parts) = self.fields.of_other() else {
            return self.refuse(stream, ErrorCode::PROTOCOL_ERROR);
        };
        let access = &self.proxy.config.limits.access;
        let misdirected = access.misdirected(&parts).filter(|_| !self.secure);
        let head = (parts, bytes);
        let Some(other) = HttpRequest::new(&self.proxy, &self.session, stream, self.address, head)
        else {
            return self.answer(stream, end, StatusCode::SERVICE_UNAVAILABLE);
        };
        let owner = Owner::Http(Arc::clone(&other));
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
        flow_controlled_len: u32,
    ) -> Result<(), ConnectionError> {
        if self.is_idle(stream) {
            return Err(ConnectionError::protocol(
                "data of a request that has not begun",
            ));
        }
        let owner = self.session.recv_data(stream, flow_controlled_len, end)?;
        let padding = flow_controlled_len as usize - data.len();
        if 0 < padding {
            self.session.release_capacity(stream, padding);
        }
        if !self.lengths.are_kept(stream, data.len(), end) {
            return self.reset_with_error(stream);
        }
        match owner {
            Some(Owner::Client(call)) => call.data(data, end),
            Some(Owner::Http(other)) => other.data(data, end),
            Some(Owner::Member(_)) | None => {}
        }
        Ok(())
    }
}
