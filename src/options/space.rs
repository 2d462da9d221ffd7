//! The options of the storage engine's space.

use keelson_store::config::QUOTA_BYTES_DEFAULT;

use super::newest;
use crate::flags::Values;

/// etcd: 0 is the default, a negative number is no quota.
pub(super) fn quota_bytes(values: &Values) -> u64 {
    match values.signed("quota-backend-bytes") {
        0 => QUOTA_BYTES_DEFAULT,
        given => u64::try_from(given).unwrap_or(u64::MAX),
    }
}

/// The flag counts megabytes; 0 stands for never.
pub(super) fn bootstrap_defrag_bytes(values: &Values) -> u64 {
    let megabytes = values.count(newest(values, "bootstrap-defrag-threshold-megabytes"));
    megabytes.saturating_mul(1 << 20)
}
