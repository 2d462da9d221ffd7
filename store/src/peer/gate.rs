//! Admission of incoming peer calls, and the detection of duplicate envelopes.
//!
//! A call is admitted if it is for this member of this cluster, and from a member of the cluster.
//! Ids are not secret, so a caller must prove its identity. This member checks at the caller's own
//! peer URL that the call's key was issued there (`prove.rs`), once for each incarnation of the
//! caller.

use std::collections::BTreeMap;

use keelson_core::member::Membership;
use keelson_core::{ClusterId, MemberId};
use parking_lot::Mutex;
use tonic::Status;

use super::Introduction;

/// The text for a removed member, which must then stop for good. etcd's words.
pub(super) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// One incarnation of a caller: its boot count, and its random key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProvenCaller {
    incarnation: u64,
    key: u64,
}

/// Admits or refuses the calls of other members. Shared by the incoming calls; the lock is never
/// held across an await.
pub struct CallerGate {
    cluster: ClusterId,
    member: MemberId,
    /// The latest proven incarnation of each member. Unknown ids are never inserted.
    proven: Mutex<BTreeMap<MemberId, ProvenCaller>>,
}

impl CallerGate {
    /// A gate for the calls to that member.
    pub fn new(cluster: ClusterId, member: MemberId) -> CallerGate {
        CallerGate {
            cluster,
            member,
            proven: Mutex::default(),
        }
    }

    /// Checks a call's introduction. Returns the introduction, or the refusal.
    pub(super) fn admit(
        &self,
        caller: Option<Introduction>,
        membership_of: impl Fn(MemberId) -> Membership,
    ) -> Result<Introduction, Status> {
        let Some(caller) = caller else {
            return Err(Status::invalid_argument(
                "the call does not introduce its member",
            ));
        };
        if caller.cluster != self.cluster {
            return Err(Status::failed_precondition(format!(
                "cluster ID mismatch: this is cluster {}, not {}. Members of one cluster are \
                 started with the same --initial-cluster and --initial-cluster-token: compare them",
                self.cluster, caller.cluster
            )));
        }
        if caller.to != self.member {
            return Err(Status::failed_precondition(format!(
                "this is member {}, not {}: the peer URLs of the two are mixed up",
                self.member, caller.to
            )));
        }
        belongs(caller.from, membership_of(caller.from))?;
        Ok(caller)
    }

    /// Whether the call is for this member of this cluster.
    pub(super) fn is_meant_by(&self, caller: &Introduction) -> bool {
        (caller.cluster, caller.to) == (self.cluster, self.member)
    }

    /// Whether that incarnation of the caller is the proven one.
    pub(super) fn is_proven(&self, caller: &Introduction) -> bool {
        let proven = self.proven.lock().get(&caller.from).copied();
        proven == Some(ProvenCaller::of(caller))
    }

    /// Records the caller's incarnation, after its own peer URL has confirmed the key.
    ///
    /// # Errors
    /// A later incarnation was proven before: the data directory is an older copy of the member's.
    pub(super) fn proven(&self, caller: &Introduction) -> Result<(), Status> {
        let mut proven = self.proven.lock();
        // Without a key the boot count is unproven, since a release without keys confirms any
        // call.
        if let Some(known) = proven.get(&caller.from)
            && known.key != 0
            && caller.incarnation < known.incarnation
        {
            return Err(Status::failed_precondition(format!(
                "member {} was started {} times before, and this is its start number {}: its data \
                 directory is an older copy and may lack what it acknowledged. Remove the member, \
                 empty its data directory and add it again",
                caller.from, known.incarnation, caller.incarnation
            )));
        }
        proven.insert(caller.from, ProvenCaller::of(caller));
        Ok(())
    }

    /// Removes the incarnations of members that have left.
    pub(super) fn keep(&self, membership_of: impl Fn(MemberId) -> Membership) {
        let mut proven = self.proven.lock();
        proven.retain(|id, _| membership_of(*id) == Membership::Member);
    }
}

impl ProvenCaller {
    fn of(caller: &Introduction) -> ProvenCaller {
        ProvenCaller {
            incarnation: caller.incarnation,
            key: caller.key,
        }
    }
}

/// Checks that the member is in the cluster. Called for every envelope.
pub(super) fn belongs(member: MemberId, membership: Membership) -> Result<(), Status> {
    match membership {
        Membership::Member => Ok(()),
        Membership::Removed => Err(Status::permission_denied(REMOVED)),
        Membership::Unknown => Err(Status::unavailable(format!(
            "{member} is not among the members of the cluster, as far as this member has applied \
             its log"
        ))),
    }
}

/// The latest envelope of one stream. An envelope is sent on one stream only, so only that stream
/// can repeat it, and the numbers of other calls have no effect.
#[derive(Debug, Default)]
pub struct ReceivedNumbers {
    last: u64,
}

impl ReceivedNumbers {
    /// Whether the envelope is new. Each number is accepted at most once, in rising order:
    /// raft-rs does not tolerate late duplicates (etcd#20418).
    pub fn take(&mut self, sequence: u64) -> bool {
        let new = self.last < sequence;
        self.last = self.last.max(sequence);
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
            incarnation: 5,
            key: 77,
        }
    }

    /// Member 9 was removed, and 8 was never a member.
    fn membership_of(member: MemberId) -> Membership {
        match member.0 {
            9 => Membership::Removed,
            8 => Membership::Unknown,
            _ => Membership::Member,
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Introduction), expected: &str) {
        let gate = CallerGate::new(GATE.0, GATE.1);
        let mut introduction = caller();
        change(&mut introduction);
        let refused = gate
            .admit(Some(introduction), membership_of)
            .expect_err("a refusal");
        assert!(refused.message().contains(expected), "{refused}");
    }

    #[test]
    fn calls_of_strangers_are_refused() {
        check(
            |caller| caller.cluster = ClusterId(7),
            "--initial-cluster-token",
        );
        check(|caller| caller.to = MemberId(7), "mixed up");
        check(|caller| caller.from = MemberId(9), REMOVED);
        check(|caller| caller.from = MemberId(8), "not among the members");
        let gate = CallerGate::new(GATE.0, GATE.1);
        assert!(gate.admit(None, membership_of).is_err());
        assert!(gate.admit(Some(caller()), membership_of).is_ok());
    }

    #[test]
    fn a_claimed_incarnation_has_no_effect_until_it_is_proven() {
        let gate = CallerGate::new(GATE.0, GATE.1);
        let stranger = Introduction {
            incarnation: 1 << 62,
            ..caller()
        };
        assert!(gate.admit(Some(stranger), membership_of).is_ok());
        assert!(!gate.is_proven(&stranger));
        assert!(gate.proven(&caller()).is_ok());
        assert!(gate.is_proven(&caller()));
        let other_key = Introduction {
            key: 78,
            ..caller()
        };
        assert!(!gate.is_proven(&other_key));
    }

    #[test]
    fn an_older_copy_of_a_member_is_refused_with_the_remedy() {
        let gate = CallerGate::new(GATE.0, GATE.1);
        assert!(gate.proven(&caller()).is_ok());
        let older = Introduction {
            incarnation: 4,
            key: 78,
            ..caller()
        };
        let refused = gate.proven(&older).expect_err("a refusal");
        assert!(refused.message().contains("add it again"), "{refused}");
        assert!(gate.is_proven(&caller()));
        let next = Introduction {
            incarnation: 6,
            ..caller()
        };
        assert!(gate.proven(&next).is_ok());
        assert!(!gate.is_proven(&caller()));
    }

    /// Releases without keys confirm any call in their name. A stranger's invented boot count
    /// would lock the member out, even after an upgrade.
    #[test]
    fn a_count_of_starts_that_no_key_proves_keeps_no_member_out() {
        let gate = CallerGate::new(GATE.0, GATE.1);
        let stranger = Introduction {
            incarnation: 1 << 62,
            key: 0,
            ..caller()
        };
        assert!(gate.proven(&stranger).is_ok());
        let member = Introduction { key: 0, ..caller() };
        assert!(gate.proven(&member).is_ok());
        assert!(gate.is_proven(&member));
        assert!(gate.proven(&stranger).is_ok());
        assert!(gate.proven(&caller()).is_ok(), "it was upgraded");
    }

    #[test]
    fn what_is_kept_is_of_members() {
        let gate = CallerGate::new(GATE.0, GATE.1);
        assert!(gate.proven(&caller()).is_ok());
        gate.keep(|_| Membership::Removed);
        assert!(!gate.is_proven(&caller()));
    }

    #[test]
    fn a_message_is_taken_once_and_in_order() {
        let mut received = ReceivedNumbers::default();
        assert!(received.take(1));
        assert!(!received.take(1));
        assert!(received.take(4));
        assert!(!received.take(2));
        assert!(received.take(5));
    }
}
