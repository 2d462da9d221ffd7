//! A member's memory, and other members' memory for it, has a bound in bytes while any part is slow
//! or stopped (etcd#17098).

use super::{Fact, Invariant, Ledger};

#[derive(Default)]
pub(super) struct MemoryIsBounded;

impl Invariant for MemoryIsBounded {
    fn name(&self) -> &'static str {
        "memory is bounded"
    }

    fn observe(&mut self, fact: &Fact<'_>, _ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Held {
                member,
                what,
                bytes,
                bytes_max,
            } if bytes_max < bytes => Err(format!("{member}: {what}: {bytes} of {bytes_max}")),
            _ => Ok(()),
        }
    }
}
