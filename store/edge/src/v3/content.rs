//! Requests in the form of etcd's log lines: protobuf's text, with sizes in place of values.

use std::fmt::Write as _;

use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::*;
use prost::Message;

/// A longer text is cut, in bytes.
const CONTENT_BYTES_MAX: usize = 4 << 10;

/// What a log line has about a request.
pub(super) struct Described {
    pub(super) request_count: i64,
    pub(super) response_count: i64,
    pub(super) content: String,
}

/// A request that a log line describes.
pub(super) trait LoggedRequest: Message {
    type Answer: Message;

    /// Describes the request; `None`: it had no answer.
    fn described(&self, answer: Option<&Self::Answer>) -> Described;
}

fn described(request_count: i64, response_count: i64, text: Text) -> Described {
    Described {
        request_count,
        response_count,
        content: text.0,
    }
}

impl LoggedRequest for RangeRequest {
    type Answer = RangeResponse;

    fn described(&self, answer: Option<&RangeResponse>) -> Described {
        let count = answer.map_or(0, |answer| answer.count);
        described(0, count, Text::default().range(self))
    }
}

impl LoggedRequest for PutRequest {
    type Answer = PutResponse;

    fn described(&self, _answer: Option<&PutResponse>) -> Described {
        described(1, 0, Text::default().put(self))
    }
}

impl LoggedRequest for DeleteRangeRequest {
    type Answer = DeleteRangeResponse;

    fn described(&self, answer: Option<&DeleteRangeResponse>) -> Described {
        let deleted = answer.map_or(0, |answer| answer.deleted);
        described(0, deleted, Text::default().delete_range(self))
    }
}

impl LoggedRequest for TxnRequest {
    type Answer = TxnResponse;

    fn described(&self, answer: Option<&TxnResponse>) -> Described {
        let branch = answer.map_or(0, |answer| match answer.succeeded {
            true => self.success.len(),
            false => self.failure.len(),
        });
        let branch = i64::try_from(branch).unwrap_or(i64::MAX);
        described(branch, 0, Text::default().txn(self))
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
    use super::*;

    #[test]
    fn requests_are_described_without_their_values() {
        let put = PutRequest {
            key: "a\n".into(),
            value: "secret".into(),
            lease: 7,
            ..Default::default()
        };
        let described = put.described(None);
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
        let described = txn.described(Some(&answer));
        assert_eq!((described.request_count, described.response_count), (1, 0));
        assert_eq!(
            described.content,
            "compare:<target:MOD key:\"a\" mod_revision:3 > \
             success:<request_put:<key:\"a\\n\" value_size:6 lease:7 > > "
        );
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
        let content = txn.described(None).content;
        assert!(content.len() < 2 * CONTENT_BYTES_MAX, "{}", content.len());
        let range = RangeRequest {
            key: vec![0; 1 << 20].into(),
            ..Default::default()
        };
        let content = range.described(None).content;
        assert!(content.len() < 2 * CONTENT_BYTES_MAX, "{}", content.len());
    }
}
