//! The spans themselves. A span ends at the latest when it is dropped.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keelson_proto::otlp::any_value::Value;
use keelson_proto::otlp::span::SpanKind;
use keelson_proto::otlp::span_status::StatusCode;
use keelson_proto::otlp::{AnyValue, KeyValue, Span, SpanStatus};
use tonic::Code;

use super::Tracer;
use super::context::{CallSpan, Origin};
use crate::account::client;

/// A longer text of an attribute is cut, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// The trace flags of a sampled span, and that it is known whether its parent is another process's.
const FLAGS: u32 = 0x101;
/// The parent is another process's.
const REMOTE: u32 = 0x200;

/// Where a span begins.
#[derive(Debug)]
struct Beginning {
    unix_ns: u64,
    at: Instant,
}

impl Beginning {
    fn now() -> Beginning {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Beginning {
            unix_ns: nanos(since.unwrap_or_default().as_nanos()),
            at: Instant::now(),
        }
    }

    /// The end of the span. The clock may be set meanwhile; a span does not end before it begins.
    fn end_ns(&self) -> u64 {
        self.unix_ns
            .saturating_add(nanos(self.at.elapsed().as_nanos()))
    }
}

fn nanos(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The span of a call at the server.
#[derive(Debug)]
pub(crate) struct ServerSpan {
    tracer: Tracer,
    origin: Origin,
    id: [u8; 8],
    method: (&'static str, &'static str),
    began: Beginning,
    client: Option<SocketAddr>,
}

impl ServerSpan {
    pub(super) fn begin(
        tracer: Tracer,
        method: (&'static str, &'static str),
        origin: Origin,
    ) -> ServerSpan {
        ServerSpan {
            id: tracer.next_id(),
            tracer,
            origin,
            method,
            began: Beginning::now(),
            client: client(),
        }
    }

    /// The call, for the spans inside it.
    pub(crate) fn call(&self) -> CallSpan {
        CallSpan {
            tracer: self.tracer.clone(),
            trace: self.origin.trace,
            span: self.id,
        }
    }

    /// Ends the span with the call's status.
    pub(crate) fn end(self, code: Code, message: &str) {
        let (service, method) = self.method;
        let mut attributes = vec![
            text("rpc.system", b"grpc"),
            text("rpc.service", service.as_bytes()),
            text("rpc.method", method.as_bytes()),
        ];
        if let Some(client) = self.client {
            let address = client.ip().to_string();
            attributes.push(text("network.peer.address", address.as_bytes()));
            attributes.push(integer("network.peer.port", client.port().into()));
        }
        attributes.push(integer("rpc.grpc.status_code", i64::from(code as i32)));
        let parent = self.origin.parent;
        self.tracer.end(Span {
            trace_id: Bytes::copy_from_slice(&self.origin.trace),
            span_id: Bytes::copy_from_slice(&self.id),
            trace_state: self.origin.state,
            parent_span_id: parent.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id)),
            flags: FLAGS | if parent.is_some() { REMOTE } else { 0 },
            name: format!("{service}/{method}"),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: self.began.unix_ns,
            end_time_unix_nano: self.began.end_ns(),
            attributes,
            status: is_servers(code).then(|| SpanStatus {
                message: cut(message.as_bytes()),
                code: StatusCode::Error.into(),
            }),
        });
    }
}

/// Whether an error is the server's and not the client's: OpenTelemetry's conventions for gRPC.
fn is_servers(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A span inside that of a call, with what was requested.
#[derive(Debug)]
pub(crate) struct ChildSpan {
    call: CallSpan,
    name: &'static str,
    began: Beginning,
    attributes: Vec<KeyValue>,
}

impl ChildSpan {
    pub(super) fn begin(call: CallSpan, name: &'static str) -> ChildSpan {
        ChildSpan {
            call,
            name,
            began: Beginning::now(),
            attributes: Vec::new(),
        }
    }

    pub(super) fn text(mut self, key: &str, value: &[u8]) -> ChildSpan {
        self.attributes.push(text(key, value));
        self
    }

    pub(super) fn integer(mut self, key: &str, value: i64) -> ChildSpan {
        self.attributes.push(integer(key, value));
        self
    }

    pub(super) fn count(self, key: &str, value: usize) -> ChildSpan {
        self.integer(key, i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn flag(mut self, key: &str, value: bool) -> ChildSpan {
        self.attributes
            .push(attribute(key, Value::BoolValue(value)));
        self
    }

    /// Replaces a number that was not known when the span began.
    pub(crate) fn set(&mut self, key: &str, value: i64) {
        let mut attributes = self.attributes.iter_mut();
        if let Some(found) = attributes.find(|attribute| attribute.key == key) {
            *found = integer(key, value);
        }
    }
}

impl Drop for ChildSpan {
    fn drop(&mut self) {
        let CallSpan {
            tracer,
            trace,
            span,
        } = &self.call;
        tracer.end(Span {
            trace_id: Bytes::copy_from_slice(trace),
            span_id: Bytes::copy_from_slice(&tracer.next_id()),
            trace_state: String::new(),
            parent_span_id: Bytes::copy_from_slice(span),
            flags: FLAGS,
            name: self.name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.began.unix_ns,
            end_time_unix_nano: self.began.end_ns(),
            attributes: std::mem::take(&mut self.attributes),
            status: None,
        });
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}

fn text(key: &str, value: &[u8]) -> KeyValue {
    attribute(key, Value::StringValue(cut(value)))
}

fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

/// The text of bytes: a protobuf string is valid UTF-8.
fn cut(value: &[u8]) -> String {
    let shown = &value[..value.len().min(TEXT_BYTES_MAX)];
    String::from_utf8_lossy(shown).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::traces::context::Ids;

    fn ended(code: Code) -> Span {
        let tracer = Tracer::new(0);
        let origin = Origin {
            trace: Ids::default().trace(),
            parent: Some([7; 8]),
            state: "a=b".to_owned(),
        };
        let method = ("etcdserverpb.KV", "Range");
        let span = ServerSpan::begin(tracer.clone(), method, origin);
        span.end(code, "its message");
        tracer.take().remove(0)
    }

    #[test]
    fn a_call_is_described_as_grpc_is() {
        let span = ended(Code::NotFound);
        assert_eq!(span.name, "etcdserverpb.KV/Range");
        assert_eq!(span.parent_span_id, [7; 8].as_slice());
        assert_eq!((span.flags, &*span.trace_state), (0x301, "a=b"));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        let attributes: BTreeMap<_, _> = span
            .attributes
            .into_iter()
            .map(|one| (one.key, one.value.and_then(|value| value.value)))
            .collect();
        let service = Value::StringValue("etcdserverpb.KV".to_owned());
        assert_eq!(attributes["rpc.service"], Some(service));
        assert_eq!(attributes["rpc.grpc.status_code"], Some(Value::IntValue(5)));
        assert_eq!(span.status, None, "it is the client's fault");
    }

    #[test]
    fn an_error_of_the_server_is_one_of_the_span() {
        let status = ended(Code::Unavailable).status.expect("an error");
        let expected = (StatusCode::Error, "its message");
        assert_eq!((status.code(), &*status.message), expected);
    }

    #[test]
    fn a_long_key_is_cut_and_any_bytes_are_text() {
        assert_eq!(cut(&[b'k'; 9_000]).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(b"a\xff"), "a\u{fffd}");
    }
}
