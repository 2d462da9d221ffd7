//! etcd's checks of corruption, and its `--feature-gates`, which turn some of them on.

use keelson_store::config::{AuditPolicy, CorruptionChecks};

use super::{OptionsError, ms, newest};
use crate::flags::{Values, reasons};

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

/// Gates that change only how something is done, with the reason why they have no effect: that of
/// their earlier flags.
const INERT: [(&str, &str); 4] = [
    ("StopGRPCServiceOnDefrag", reasons::NO_PAUSE),
    ("TxnModeWriteWithSharedBuffer", reasons::NO_BBOLT),
    ("LeaseCheckpoint", reasons::LEASES_LAST),
    ("LeaseCheckpointPersist", reasons::LEASES_LAST),
];
/// Gates that need nothing when they are closed.
const OTHERS: [&str; 5] = [
    "SetMemberLocalAddr",
    "PriorityRequest",
    "FastLeaseKeepAlive",
    "AllAlpha",
    "AllBeta",
];
/// The remedy for an open gate without an effect.
const REMEDY: &str = "of etcd's feature gates, InitialCorruptCheck and CompactHashCheck have an \
                      effect: leave the others out";

/// The names and values of `--feature-gates`.
fn listed(values: &Values) -> impl Iterator<Item = (&str, &str)> {
    let listed = values.text("feature-gates").split(',').map(str::trim);
    let listed = listed.filter(|gate| !gate.is_empty());
    listed.map(|gate| gate.split_once('=').unwrap_or((gate, "")))
}

/// Lines about gates that have no effect.
pub(super) fn gates_without_effect(values: &Values) -> Vec<String> {
    let inert = listed(values).filter_map(|(name, _)| {
        let (name, reason) = INERT.iter().find(|(inert, _)| *inert == name.trim())?;
        Some(format!("the feature gate {name} has no effect: {reason}"))
    });
    inert.collect()
}

/// Reads `name=true,name=false`.
///
/// # Errors
/// Gates that etcd does not have, values that are no booleans, and open gates without an effect.
fn gates(values: &Values) -> Result<Gates, OptionsError> {
    let mut gates = Gates {
        initial_corrupt_check: values.boolean("experimental-initial-corrupt-check"),
        compact_hash_check: values.boolean("experimental-compact-hash-check-enabled"),
    };
    for (name, value) in listed(values) {
        let open = match value.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => true,
            "false" | "f" | "0" => false,
            _ => return Err(OptionsError::Gate(format!("{name}={value}"))),
        };
        match name.trim() {
            "InitialCorruptCheck" => gates.initial_corrupt_check = open,
            "CompactHashCheck" => gates.compact_hash_check = open,
            other if OTHERS.contains(&other) && !open => {}
            other if OTHERS.contains(&other) => {
                return Err(OptionsError::Unsupported("feature-gates", REMEDY));
            }
            other if INERT.iter().any(|(inert, _)| *inert == other) => {}
            _ => return Err(OptionsError::Gate(format!("{name}={value}"))),
        }
    }
    Ok(gates)
}
