//! The compares of a transaction.

use bytes::Bytes;
use keelson_proto::etcdserverpb::Compare;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::mvccpb::KeyValue;

/// Whether a compare holds for the pairs that it names.
pub(super) fn holds(compare: &Compare, found: Vec<&KeyValue>) -> bool {
    if found.is_empty() {
        // etcd: a missing key has no value, but its numbers are all 0.
        let by_value = compare.target() == CompareTarget::Value;
        return !by_value && pair_holds(compare, &KeyValue::default());
    }
    found.into_iter().all(|kv| pair_holds(compare, kv))
}

fn pair_holds(compare: &Compare, kv: &KeyValue) -> bool {
    let number = |found: i64| match compare.target_union {
        Some(
            TargetUnion::Version(expected)
            | TargetUnion::CreateRevision(expected)
            | TargetUnion::ModRevision(expected)
            | TargetUnion::Lease(expected),
        ) => found.cmp(&expected),
        _ => found.cmp(&0),
    };
    let ordering = match compare.target() {
        CompareTarget::Version => number(kv.version),
        CompareTarget::Create => number(kv.create_revision),
        CompareTarget::Mod => number(kv.mod_revision),
        CompareTarget::Lease => number(kv.lease),
        CompareTarget::Value => match &compare.target_union {
            Some(TargetUnion::Value(expected)) => kv.value.cmp(expected),
            _ => kv.value.cmp(&Bytes::new()),
        },
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}
