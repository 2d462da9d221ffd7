//! Range requests.

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::mvccpb::KeyValue;

use super::{Kv, Refusal, header};

/// Reads, where `newest` is the revision with the writes of the transaction so far.
pub(super) fn range(
    kv: &Kv,
    request: &RangeRequest,
    newest: i64,
) -> Result<RangeResponse, Refusal> {
    let revision = match request.revision {
        ..=0 => newest,
        past => past,
    };
    if revision > newest {
        return Err(Refusal::FutureRevision);
    }
    if revision < kv.compacted {
        return Err(Refusal::Compacted);
    }
    let kvs = kv.pairs(&request.key, &request.range_end, revision);
    let mut kvs: Vec<KeyValue> = kvs.into_iter().cloned().collect();
    let count = kvs.len() as i64;
    let more = shape(request, &mut kvs);
    Ok(RangeResponse {
        header: header(newest),
        kvs,
        more,
        count,
    })
}

/// Filters, sorts, limits and strips; returns whether the limit applied.
fn shape(request: &RangeRequest, kvs: &mut Vec<KeyValue>) -> bool {
    let limit = request.limit.max(0) as usize;
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    // A quirk of etcd: without an order and without filters, the limit applies first.
    if limit > 0 && request.sort_order() == SortOrder::None && filters == [0; 4] {
        kvs.truncate(limit + 1);
    }
    let [min_mod, max_mod, min_create, max_create] = filters;
    kvs.retain(|kv| min_mod == 0 || kv.mod_revision >= min_mod);
    kvs.retain(|kv| max_mod == 0 || kv.mod_revision <= max_mod);
    kvs.retain(|kv| min_create == 0 || kv.create_revision >= min_create);
    kvs.retain(|kv| max_create == 0 || kv.create_revision <= max_create);
    sort(request, kvs);
    let more = limit > 0 && kvs.len() > limit && !request.count_only;
    if limit > 0 {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    if request.count_only {
        kvs.clear();
    }
    more
}

/// Sorts pairs that are in key order.
fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let descends = request.sort_order() == SortOrder::Descend;
    let sign = if descends { -1 } else { 1 };
    match request.sort_target() {
        SortTarget::Key if descends => kvs.reverse(),
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| sign * kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| sign * kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| sign * kv.mod_revision),
        SortTarget::Value if descends => kvs.sort_by(|a, b| b.value.cmp(&a.value)),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
}
