//! Who may speak, and which of their messages are new.

use std::collections::HashMap;

use keelson_core::{ClusterId, MemberId};
use parking_lot::Mutex;
use tonic::Status;

use super::Introduction;

/// What a refused member is told: it must stop for good. etcd's words.
pub(super) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// One peer's latest life and the last message taken from it.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    boot: u64,
    sequence: u64,
}

/// The door of a member. Shared by its incoming calls; a plain mutex, as nothing is awaited inside.
pub struct Gate {
    cluster: ClusterId,
    member: MemberId,
    heard: Mutex<HashMap<MemberId, Heard>>,
}

impl Gate {
    /// The door of that member.
    pub fn new(cluster: ClusterId, member: MemberId) -> Gate {
        Gate {
            cluster,
            member,
            heard: Mutex::new(HashMap::new()),
        }
    }

    /// Whether a call may go on. `removed` says who left the cluster for good.
    pub(super) fn admit(
        &self,
        caller: Option<Introduction>,
        removed: impl Fn(MemberId) -> bool,
    ) -> Result<Introduction, Status> {
        let Some(caller) = caller else {
            return Err(Status::invalid_argument(
                "the call does not introduce its member",
            ));
        };
        if caller.cluster != self.cluster {
            return Err(Status::failed_precondition(format!(
                "cluster ID mismatch: this is cluster {}, not {}",
                self.cluster, caller.cluster
            )));
        }
        if caller.to != self.member {
            return Err(Status::failed_precondition(format!(
                "this is member {}, not {}: the peer URLs of the two are mixed up",
                self.member, caller.to
            )));
        }
        if removed(caller.from) {
            return Err(Status::permission_denied(REMOVED));
        }
        let mut heard = self.heard.lock();
        let heard = heard.entry(caller.from).or_default();
        if caller.boot < heard.boot {
            return Err(Status::failed_precondition(
                "a call from an earlier life of its member",
            ));
        }
        if heard.boot < caller.boot {
            *heard = Heard {
                boot: caller.boot,
                sequence: 0,
            };
        }
        Ok(caller)
    }

    /// Whether the message is new. Each (boot, sequence) is taken at most once, in rising order:
    /// raft-rs is not proof against late duplicates (etcd#20418).
    pub fn take(&self, from: MemberId, boot: u64, sequence: u64) -> bool {
        let mut heard = self.heard.lock();
        let heard = heard.entry(from).or_default();
        let new = heard.boot < boot || heard.boot == boot && heard.sequence < sequence;
        if new {
            *heard = Heard { boot, sequence };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: (ClusterId, MemberId) = (ClusterId(1), MemberId(2));

    fn caller() -> Introduction {
        Introduction {
            cluster: GATE.0,
            from: MemberId(3),
            to: GATE.1,
            boot: 5,
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Introduction), expected: &str) {
        let gate = Gate::new(GATE.0, GATE.1);
        let mut introduction = caller();
        change(&mut introduction);
        let removed = |member| member == MemberId(9);
        let refused = gate
            .admit(Some(introduction), removed)
            .expect_err("a refusal");
        assert!(refused.message().contains(expected), "{refused}");
    }

    #[test]
    fn strangers_are_turned_away() {
        check(
            |caller| caller.cluster = ClusterId(7),
            "cluster ID mismatch",
        );
        check(|caller| caller.to = MemberId(7), "mixed up");
        check(|caller| caller.from = MemberId(9), REMOVED);
        let gate = Gate::new(GATE.0, GATE.1);
        assert!(gate.admit(None, |_| false).is_err());
        assert!(gate.admit(Some(caller()), |_| false).is_ok());
    }

    #[test]
    fn an_earlier_life_is_over() {
        let gate = Gate::new(GATE.0, GATE.1);
        assert!(gate.admit(Some(caller()), |_| false).is_ok());
        let earlier = Introduction {
            boot: 4,
            ..caller()
        };
        assert!(gate.admit(Some(earlier), |_| false).is_err());
        assert!(!gate.take(MemberId(3), 4, 100));
    }

    #[test]
    fn a_message_is_taken_once_and_in_order() {
        let gate = Gate::new(GATE.0, GATE.1);
        assert!(gate.take(MemberId(3), 5, 1));
        assert!(!gate.take(MemberId(3), 5, 1));
        assert!(gate.take(MemberId(3), 5, 4));
        assert!(!gate.take(MemberId(3), 5, 2));
        assert!(gate.take(MemberId(3), 6, 1));
    }
}
