//! etcd's checks of corruption, and its `--feature-gates`, which turn some of them on.

use keelson_store::config::{AuditPolicy, CorruptionChecks};

use super::{OptionsError, ms, newest};
use crate::flags::Values;

/// The checks that members make of each other.
pub(super) fn corruption(values: &Values) -> Result<CorruptionChecks, OptionsError> {
    let gates = gates(values)?;
    Ok(CorruptionChecks {
        audits: AuditPolicy::default(),
        at_start: gates.initial_corrupt_check,
        periodic_ms: ms(values, newest(values, "corrupt-check-time")),
        compactions_ms: match gates.compact_hash_check {
            true => ms(values, newest(values, "compact-hash-check-time")),
            false => 0,
        },
    })
}

/// The gates that have an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gates {
    initial_corrupt_check: bool,
    compact_hash_check: bool,
}

/// etcd checks the times of its checks, whether they run or not.
pub(super) fn refuse_unusual_times(values: &Values) -> Result<(), OptionsError> {
    for name in [
        "compact-hash-check-time",
        "experimental-compact-hash-check-time",
    ] {
        if values.duration(name).is_zero() {
            return Err(OptionsError::ZeroTime(name));
        }
    }
    Ok(())
}

/// etcd's other gates. One that is closed needs nothing.
const OTHERS: [&str; 7] = [
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "SetMemberLocalAddr",
    "PriorityRequest",
    "FastLeaseKeepAlive",
];
/// What a gate without an effect is refused with.
const REMEDY: &str = "of etcd's feature gates, InitialCorruptCheck and CompactHashCheck have an \
                      effect: leave the others out";

/// Reads `name=true,name=false`.
///
/// # Errors
/// Gates that etcd does not have, values that are no booleans, and open gates without an effect.
fn gates(values: &Values) -> Result<Gates, OptionsError> {
    let mut gates = Gates {
        initial_corrupt_check: values.boolean("experimental-initial-corrupt-check"),
        compact_hash_check: values.boolean("experimental-compact-hash-check-enabled"),
    };
    let listed = values.text("feature-gates").split(',').map(str::trim);
    for gate in listed.filter(|gate| !gate.is_empty()) {
        let (name, value) = gate.split_once('=').unwrap_or((gate, ""));
        let open = match value.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => true,
            "false" | "f" | "0" => false,
            _ => return Err(OptionsError::Gate(gate.to_owned())),
        };
        match name.trim() {
            "InitialCorruptCheck" => gates.initial_corrupt_check = open,
            "CompactHashCheck" => gates.compact_hash_check = open,
            other if OTHERS.contains(&other) && !open => {}
            other if OTHERS.contains(&other) => {
                return Err(OptionsError::Unsupported("feature-gates", REMEDY));
            }
            _ => return Err(OptionsError::Gate(gate.to_owned())),
        }
    }
    Ok(gates)
}
