//! What a span has about its request: etcd's attributes, in etcd's order.

use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::*;
use tonic::Request;

use super::{CallSpan, ChildSpan};

/// No operation puts a key: etcd's value of `success_first_lease`.
const NO_PUT: i64 = -1;

/// A request with a span of its own inside that of its call.
pub(crate) trait Traced {
    const NAME: &'static str;

    /// Adds the request's attributes.
    fn describe(&self, span: ChildSpan) -> ChildSpan;
}

/// Begins the span of a request; `None` if its call has none.
pub(crate) fn begun<Q: Traced>(request: &Request<Q>) -> Option<ChildSpan> {
    let call = request.extensions().get::<CallSpan>()?;
    Some(call.of(request.get_ref()))
}

impl Traced for RangeRequest {
    const NAME: &'static str = "range";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.text("range_begin", &self.key)
            .text("range_end", &self.range_end)
            .integer("rev", self.revision)
            .integer("limit", self.limit)
            .flag("count_only", self.count_only)
            .flag("keys_only", self.keys_only)
    }
}

impl Traced for PutRequest {
    const NAME: &'static str = "put";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.text("key", &self.key)
    }
}

impl Traced for DeleteRangeRequest {
    const NAME: &'static str = "delete_range";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.text("range_begin", &self.key)
            .text("range_end", &self.range_end)
    }
}

impl Traced for TxnRequest {
    const NAME: &'static str = "txn";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        let mut compared = self.compare.iter().map(|compare| &compare.key);
        let compared = compared.find(|key| !key.is_empty());
        let mut done = self.success.iter().filter_map(key);
        let done = done.find(|key| !key.is_empty());
        span.text("compare_first_key", compared.map_or(&[], |key| key))
            .text("success_first_key", done.unwrap_or_default())
            .text("success_first_type", first_type(&self.success).as_bytes())
            .integer("success_first_lease", first_lease(&self.success))
            .count("compare_len", self.compare.len())
            .count("success_len", self.success.len())
            .count("failure_len", self.failure.len())
            .flag(
                "read_only",
                reads_only(&self.success) && reads_only(&self.failure),
            )
    }
}

fn key(op: &RequestOp) -> Option<&[u8]> {
    match op.request.as_ref()? {
        Op::RequestPut(put) => Some(&put.key),
        Op::RequestRange(range) => Some(&range.key),
        Op::RequestDeleteRange(delete) => Some(&delete.key),
        Op::RequestTxn(_) => None,
    }
}

fn first_type(ops: &[RequestOp]) -> &'static str {
    let first = ops.iter().find_map(|op| op.request.as_ref());
    match first {
        Some(Op::RequestPut(_)) => "put",
        Some(Op::RequestRange(_)) => "range",
        Some(Op::RequestDeleteRange(_)) => "delete_range",
        Some(Op::RequestTxn(_)) => "txn",
        None => "",
    }
}

fn first_lease(ops: &[RequestOp]) -> i64 {
    let first = ops.iter().find_map(|op| match &op.request {
        Some(Op::RequestPut(put)) => Some(put.lease),
        _ => None,
    });
    first.unwrap_or(NO_PUT)
}

/// Whether all operations are ranges: etcd's `IsTxnReadonly`.
fn reads_only(ops: &[RequestOp]) -> bool {
    ops.iter()
        .all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

impl Traced for CompactionRequest {
    const NAME: &'static str = "compact";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.flag("is_physical", self.physical)
            .integer("rev", self.revision)
    }
}

impl Traced for LeaseGrantRequest {
    const NAME: &'static str = "lease_grant";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.integer("id", self.id).integer("ttl", self.ttl)
    }
}

impl Traced for LeaseRevokeRequest {
    const NAME: &'static str = "lease_revoke";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.integer("id", self.id)
    }
}

impl Traced for LeaseKeepAliveRequest {
    const NAME: &'static str = "lease_renew";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.integer("id", self.id)
    }
}

impl Traced for WatchCreateRequest {
    const NAME: &'static str = "watch";

    fn describe(&self, span: ChildSpan) -> ChildSpan {
        span.text("key", &self.key)
            .text("range_end", &self.range_end)
            .integer("start_rev", self.start_revision)
            .flag("progress_notify", self.progress_notify)
            .flag("prev_kv", self.prev_kv)
            .flag("fragment", self.fragment)
    }
}
