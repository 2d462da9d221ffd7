//! The comparisons of a transaction.

use std::cmp::Ordering;

use keelson_proto::etcdserverpb::Compare;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::mvccpb::KeyValue;

use super::keys::KeyRange;
use super::shared::{ReadError, Reads};

/// Whether the comparison holds for every key of its range. If no key exists, a comparison of
/// values fails, and every other one compares with 0.
pub(super) fn holds(reads: &Reads<'_>, compare: &Compare) -> Result<bool, ReadError> {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut rows = Vec::new();
    reads.shared.index.visit(range, reads.current, |_, row| {
        rows.push(row);
        true
    });
    let target = CompareTarget::try_from(compare.target);
    if rows.is_empty() {
        let comparable = target != Ok(CompareTarget::Value);
        return Ok(comparable && matches(compare, &KeyValue::default()));
    }
    for row in rows {
        let pair = match target {
            // The index has the revision; the row is not needed.
            Ok(CompareTarget::Mod) => KeyValue {
                mod_revision: row.main,
                ..KeyValue::default()
            },
            _ => reads.row(row)?,
        };
        if !matches(compare, &pair) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As in etcd, an operand of another type than the target counts as 0 or empty, an unknown target
/// compares as equal, and an unknown relation holds.
fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let operand = compare.target_union.as_ref();
    let number = |wanted: Option<i64>, actual: i64| actual.cmp(&wanted.unwrap_or(0));
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(version(operand), kv.version),
        Ok(CompareTarget::Create) => number(created(operand), kv.create_revision),
        Ok(CompareTarget::Mod) => number(modified(operand), kv.mod_revision),
        Ok(CompareTarget::Lease) => number(lease(operand), kv.lease),
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value[..].cmp(&[]),
        },
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

macro_rules! operand {
    ($name:ident, $variant:ident) => {
        fn $name(operand: Option<&TargetUnion>) -> Option<i64> {
            match operand {
                Some(TargetUnion::$variant(number)) => Some(*number),
                _ => None,
            }
        }
    };
}

operand!(version, Version);
operand!(created, CreateRevision);
operand!(modified, ModRevision);
operand!(lease, Lease);
