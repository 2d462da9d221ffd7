//! Requests in the form of etcd's log lines: protobuf's text, with sizes in place of values.

use std::fmt::Write as _;

use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::*;
use prost::Message;

/// A longer text is cut, in bytes.
const CONTENT_BYTES_MAX: usize = 4 << 10;

/// A request of at most this size is described only if its line is written, in bytes.
const ENCODED_BYTES_MAX: usize = 4 << 10;

/// What a log line has about a request.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) request_count: i64,
    pub(super) request_size: usize,
    pub(super) response_count: i64,
    pub(super) content: String,
}

/// The numbers of operations of a request: as it stands, or of a transaction's branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operations {
    success: usize,
    failure: usize,
}

/// A request that a log line describes.
pub(super) trait LoggedRequest: Message + Default {
    type Answer: Message;

    fn text(&self) -> String;

    /// Its operations, as etcd counts them.
    fn operations(&self) -> Operations;

    /// Whether the answer is of the first branch.
    fn has_succeeded(_answer: &Self::Answer) -> bool {
        true
    }

    /// The number of pairs that the answer is about.
    fn response_count(_answer: &Self::Answer) -> i64 {
        0
    }
}

/// What is kept of a request until its end: its own bytes may be parts of a far larger buffer, and
/// its value is not logged.
#[derive(Debug)]
pub(super) enum KeptRequest {
    /// A small request.
    Encoded(Vec<u8>),
    /// A large one.
    Text {
        operations: Operations,
        size: usize,
        content: String,
    },
}

impl KeptRequest {
    pub(super) fn of<Q: LoggedRequest>(request: &Q) -> KeptRequest {
        match request.encoded_len() {
            ..=ENCODED_BYTES_MAX => KeptRequest::Encoded(request.encode_to_vec()),
            size => KeptRequest::Text {
                operations: request.operations(),
                size,
                content: request.text(),
            },
        }
    }

    /// Describes the request; `None`: it had no answer.
    pub(super) fn described<Q: LoggedRequest>(self, answer: Option<&Q::Answer>) -> Described {
        let (operations, request_size, content) = match self {
            KeptRequest::Text {
                operations,
                size,
                content,
            } => (operations, size, content),
            KeptRequest::Encoded(bytes) => {
                let request = Q::decode(&bytes[..]).unwrap_or_default();
                (request.operations(), bytes.len(), request.text())
            }
        };
        let request_count = match answer.is_some_and(Q::has_succeeded) {
            true => operations.success,
            false => operations.failure,
        };
        Described {
            request_count: i64::try_from(request_count).unwrap_or(i64::MAX),
            request_size,
            response_count: answer.map_or(0, Q::response_count),
            content,
        }
    }
}

impl Operations {
    fn some(count: usize) -> Operations {
        Operations {
            success: count,
            failure: count,
        }
    }
}

impl LoggedRequest for RangeRequest {
    type Answer = RangeResponse;

    fn text(&self) -> String {
        Text::default().range(self).0
    }

    fn operations(&self) -> Operations {
        Operations::some(0)
    }

    fn response_count(answer: &RangeResponse) -> i64 {
        answer.count
    }
}

impl LoggedRequest for PutRequest {
    type Answer = PutResponse;

    fn text(&self) -> String {
        Text::default().put(self).0
    }

    fn operations(&self) -> Operations {
        Operations::some(1)
    }
}

impl LoggedRequest for DeleteRangeRequest {
    type Answer = DeleteRangeResponse;

    fn text(&self) -> String {
        Text::default().delete_range(self).0
    }

    fn operations(&self) -> Operations {
        Operations::some(0)
    }

    fn response_count(answer: &DeleteRangeResponse) -> i64 {
        answer.deleted
    }
}

impl LoggedRequest for TxnRequest {
    type Answer = TxnResponse;

    fn text(&self) -> String {
        Text::default().txn(self).0
    }

    fn operations(&self) -> Operations {
        Operations {
            success: self.success.len(),
            failure: self.failure.len(),
        }
    }

    fn has_succeeded(answer: &TxnResponse) -> bool {
        answer.succeeded
    }
}

/// Protobuf's text of a message. Fields that have their default are omitted.
#[derive(Default)]
struct Text(String);

impl Text {
    fn is_full(&self) -> bool {
        CONTENT_BYTES_MAX <= self.0.len()
    }

    fn add(mut self, name: &str, value: impl std::fmt::Display) -> Text {
        if !self.is_full() {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{name}:{value} ");
        }
        self
    }

    fn number(self, name: &str, value: i64) -> Text {
        match value {
            0 => self,
            value => self.add(name, value),
        }
    }

    fn flag(self, name: &str, value: bool) -> Text {
        match value {
            false => self,
            true => self.add(name, true),
        }
    }

    fn bytes(self, name: &str, value: &[u8]) -> Text {
        let shown = &value[..value.len().min(CONTENT_BYTES_MAX / 4)];
        match shown {
            [] => self,
            shown => self.add(name, format_args!("\"{}\"", shown.escape_ascii())),
        }
    }

    fn size(self, name: &str, value: &[u8]) -> Text {
        self.add(name, value.len())
    }

    fn nested(mut self, name: &str, inner: impl FnOnce(Text) -> Text) -> Text {
        if self.is_full() {
            return self;
        }
        let _ = write!(self.0, "{name}:<");
        let mut text = inner(self);
        text.0.push_str("> ");
        text
    }

    fn range(self, request: &RangeRequest) -> Text {
        self.bytes("key", &request.key)
            .bytes("range_end", &request.range_end)
            .number("limit", request.limit)
            .number("revision", request.revision)
            .flag("serializable", request.serializable)
            .flag("keys_only", request.keys_only)
            .flag("count_only", request.count_only)
    }

    fn put(self, request: &PutRequest) -> Text {
        self.bytes("key", &request.key)
            .size("value_size", &request.value)
            .number("lease", request.lease)
            .flag("prev_kv", request.prev_kv)
            .flag("ignore_value", request.ignore_value)
            .flag("ignore_lease", request.ignore_lease)
    }

    fn delete_range(self, request: &DeleteRangeRequest) -> Text {
        self.bytes("key", &request.key)
            .bytes("range_end", &request.range_end)
            .flag("prev_kv", request.prev_kv)
    }

    fn txn(self, request: &TxnRequest) -> Text {
        let text = request.compare.iter().fold(self, |text, compare| {
            text.nested("compare", |text| text.compare(compare))
        });
        [("success", &request.success), ("failure", &request.failure)]
            .into_iter()
            .fold(text, |text, (name, ops)| {
                ops.iter().fold(text, |text, op| {
                    text.nested(name, |text| text.op(op.request.as_ref()))
                })
            })
    }

    fn op(self, op: Option<&Op>) -> Text {
        match op {
            Some(Op::RequestRange(range)) => self.nested("request_range", |text| text.range(range)),
            Some(Op::RequestPut(put)) => self.nested("request_put", |text| text.put(put)),
            Some(Op::RequestDeleteRange(delete)) => {
                self.nested("request_delete_range", |text| text.delete_range(delete))
            }
            Some(Op::RequestTxn(txn)) => self.nested("request_txn", |text| text.txn(txn)),
            None => self,
        }
    }

    fn compare(self, compare: &Compare) -> Text {
        let text = match compare.result() {
            CompareResult::Equal => self,
            result => self.add("result", result.as_str_name()),
        };
        let text = match compare.target() {
            CompareTarget::Version => text,
            target => text.add("target", target.as_str_name()),
        };
        let text = text.bytes("key", &compare.key);
        let text = match &compare.target_union {
            Some(TargetUnion::Version(value)) => text.add("version", value),
            Some(TargetUnion::CreateRevision(value)) => text.add("create_revision", value),
            Some(TargetUnion::ModRevision(value)) => text.add("mod_revision", value),
            Some(TargetUnion::Value(value)) => text.size("value_size", value),
            Some(TargetUnion::Lease(value)) => text.add("lease", value),
            None => text,
        };
        text.bytes("range_end", &compare.range_end)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn requests_are_described_without_their_values() {
        let put = PutRequest {
            key: "a\n".into(),
            value: "secret".into(),
            lease: 7,
            ..Default::default()
        };
        let described = KeptRequest::of(&put).described::<PutRequest>(None);
        assert_eq!(described.request_count, 1);
        assert_eq!(described.content, "key:\"a\\n\" value_size:6 lease:7 ");
        let txn = TxnRequest {
            compare: vec![Compare {
                target: CompareTarget::Mod.into(),
                key: "a".into(),
                target_union: Some(TargetUnion::ModRevision(3)),
                ..Default::default()
            }],
            success: vec![RequestOp {
                request: Some(Op::RequestPut(put)),
            }],
            failure: Vec::new(),
        };
        let answer = TxnResponse {
            succeeded: true,
            ..Default::default()
        };
        let described = KeptRequest::of(&txn).described::<TxnRequest>(Some(&answer));
        assert_eq!((described.request_count, described.response_count), (1, 0));
        assert_eq!(
            described.content,
            "compare:<target:MOD key:\"a\" mod_revision:3 > \
             success:<request_put:<key:\"a\\n\" value_size:6 lease:7 > > "
        );
    }

    /// The key was part of the request's buffer, which has the value as well.
    #[test]
    fn neither_the_value_nor_the_buffer_of_a_request_is_kept() {
        for bytes in [10, 1 << 20] {
            let buffer = Bytes::from(vec![b'x'; bytes]);
            let put = PutRequest {
                key: buffer.slice(..5),
                value: buffer.slice(5..),
                ..Default::default()
            };
            drop(buffer);
            let size = put.encoded_len();
            let kept = KeptRequest::of(&put);
            let buffer = put.key;
            drop(put.value);
            assert!(buffer.is_unique(), "{bytes}");
            let described = kept.described::<PutRequest>(None);
            assert_eq!((described.request_count, described.request_size), (1, size));
            let content = format!("key:\"xxxxx\" value_size:{} ", bytes - 5);
            assert_eq!(described.content, content);
        }
    }

    #[test]
    fn a_long_request_is_cut() {
        let put = RequestOp {
            request: Some(Op::RequestPut(PutRequest {
                key: vec![b'k'; 100].into(),
                ..Default::default()
            })),
        };
        let txn = TxnRequest {
            success: vec![put; 1_000],
            ..Default::default()
        };
        let content = txn.text();
        assert!(content.len() < 2 * CONTENT_BYTES_MAX, "{}", content.len());
        let range = RangeRequest {
            key: vec![0; 1 << 20].into(),
            ..Default::default()
        };
        let content = range.text();
        assert!(content.len() < 2 * CONTENT_BYTES_MAX, "{}", content.len());
    }
}
