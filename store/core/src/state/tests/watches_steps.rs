//! The random steps of a run of watches.

use proptest::prelude::*;

/// A step of a run.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Put(u8, u16),
    Delete(u8, u8),
    Txn(u8, u8),
    Compact(u8),
    Sweep,
    Flush,
    FanOut,
    /// Key, range end, start relative to the current revision, flags.
    Create(u8, u8, i8, u8),
    Cancel(u8),
    Pump(u8),
    Progress,
    Notify,
    /// The state is replaced by a snapshot of itself.
    Replace,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u8, 0..600u16).prop_map(|(key, bytes)| Step::Put(key, bytes)),
        2 => (0..6u8, 0..7u8).prop_map(|(from, to)| Step::Delete(from, to)),
        2 => (0..6u8, 0..6u8).prop_map(|(one, other)| Step::Txn(one, other)),
        1 => (0..6u8).prop_map(Step::Compact),
        1 => Just(Step::Sweep),
        1 => Just(Step::Flush),
        4 => Just(Step::FanOut),
        3 => (0..6u8, 0..8u8, -12..4i8, any::<u8>())
            .prop_map(|(key, end, start, flags)| Step::Create(key, end, start, flags)),
        1 => (0..12u8).prop_map(Step::Cancel),
        4 => (0..10u8).prop_map(Step::Pump),
        1 => Just(Step::Progress),
        1 => Just(Step::Notify),
        1 => Just(Step::Replace),
    ]
}
