//! Each transition of the lessor, against a real state.

mod forwarding;

use keelson_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use keelson_proto::peer::peer_message::Message;

use super::leader::{EXPIRE_AGAIN_MS, PAUSE_MS, RETRY_MS};
use super::*;
use crate::Term;
use crate::member::tests::{commit, empty_state};
use crate::state::StateMachine;

const EXTENSION_MS: u64 = 1_000;
const TIMEOUT_MS: u64 = 7_000;
const ME: MemberId = MemberId(1);
const PEER: MemberId = MemberId(2);

/// A lessor, its member's state, and the time.
struct World {
    lessor: Lessor,
    state: StateMachine,
    now: u64,
    soft_state: SoftState,
    changes: Vec<LeaseChange>,
}

impl World {
    fn new() -> World {
        World {
            lessor: Lessor::new(5, EXTENSION_MS, TIMEOUT_MS),
            state: empty_state(),
            now: 1_000,
            soft_state: SoftState {
                leader: PEER,
                role: Role::Follower,
                term: Term(3),
            },
            changes: Vec::new(),
        }
    }

    fn elected(&mut self, term: u64) {
        self.soft_state = SoftState {
            leader: ME,
            role: Role::Leader,
            term: Term(term),
        };
    }

    /// A member that has begun to lead and has applied everything of earlier terms.
    fn leading() -> World {
        let mut world = World::new();
        world.leads(3);
        world
    }

    fn leads(&mut self, term: u64) {
        self.elected(term);
        let number = self.woken().read.expect("the read before the tenure");
        self.happens(LessorEvent::Done(number));
    }

    fn happens(&mut self, event: LessorEvent) -> LessorEffects {
        let view = self.state.view();
        self.lessor
            .handle(Millis(self.now), self.soft_state, &view, [event])
    }

    fn woken(&mut self) -> LessorEffects {
        self.happens(LessorEvent::Woken)
    }

    fn woken_at(&mut self, now: u64) -> LessorEffects {
        self.now = now;
        self.woken()
    }

    /// Time passes, with the calls that the lessor planned.
    fn wait_until(&mut self, now: u64) {
        loop {
            let effects = self.woken();
            assert!(effects.propose.is_empty(), "{effects:?}");
            if now <= effects.wake_at.0 {
                break;
            }
            self.now = effects.wake_at.0;
        }
        self.now = now;
    }

    fn request(&mut self, number: u64, id: i64, renew: bool) -> LessorEffects {
        self.happens(LessorEvent::Requested { number, id, renew })
    }

    /// A renewal, whose read is done at once.
    fn renew(&mut self, id: i64) -> LeaseOutcome {
        let read = self.request(77, id, true).read.expect("a read");
        let [(77, outcome)] = self.happens(LessorEvent::Done(read)).answers[..] else {
            panic!("no answer");
        };
        outcome
    }

    fn apply(&mut self, op: Op) {
        let applied = commit(&mut self.state, self.soft_state.term, op);
        self.changes.extend(applied.leases);
    }

    /// Applies, and passes the changes of leases on.
    fn commits(&mut self, op: Op) -> LessorEffects {
        self.apply(op);
        let changes = std::mem::take(&mut self.changes);
        self.happens(LessorEvent::Changed(changes))
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        self.commits(Op::LeaseGrant(LeaseGrantRequest { id, ttl }));
    }

    fn revoke(&mut self, id: i64) -> LessorEffects {
        self.commits(Op::LeaseRevoke(LeaseRevokeRequest { id }))
    }

    fn remaining(&self, id: i64) -> i64 {
        self.state.view().lease(id).expect("it is there").remaining
    }
}

fn alive(ttl: i64, granted_ttl: i64) -> LeaseOutcome {
    LeaseOutcome::Alive { granted_ttl, ttl }
}

fn expired(effects: &LessorEffects) -> Vec<i64> {
    match &effects.propose[..] {
        [(_, Op::LeaseExpire(expire))] => expire.leases.iter().map(|name| name.id).collect(),
        [] => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_expires_after_its_time_and_a_renewal_gives_it_all_of_it_again() {
    let mut world = World::leading();
    world.grant(7, 10);
    world.wait_until(10_000);
    assert_eq!(world.renew(7), alive(10, 10));
    world.wait_until(19_999);
    let effects = world.woken_at(20_000);
    assert_eq!(expired(&effects), [7]);
    let (number, op) = effects.propose.into_iter().next().unwrap();
    // It can no longer be renewed: the request waits for the outcome.
    let held = world.request(1, 7, true);
    assert!(held.answers.is_empty() && held.read.is_none());
    let read = world.commits(op).read.expect("a read");
    let answers = world.happens(LessorEvent::Done(read)).answers;
    assert_eq!(answers, [(1, LeaseOutcome::Absent)]);
    world.happens(LessorEvent::Done(number));
    assert_eq!(world.renew(7), LeaseOutcome::Absent);
}

/// With the round of heartbeats before the renewal, a leader elected between them would expire the
/// lease earlier than its client was promised.
#[test]
fn a_renewal_is_answered_only_after_a_read_that_began_after_it() {
    let mut world = World::leading();
    world.grant(7, 10);
    let first = world.request(1, 7, true);
    assert!(first.answers.is_empty());
    let second = world.request(2, 7, true);
    let (first, second) = (first.read.unwrap(), second.read.unwrap());
    let done = world.happens(LessorEvent::Done(first)).answers;
    assert_eq!(done, [(1, alive(10, 10))]);
    // A read that failed confirms nothing; the next one does.
    let failed = world.happens(LessorEvent::Failed(second));
    assert!(
        failed.answers.is_empty() && failed.read.is_none(),
        "{failed:?}"
    );
    assert_eq!(failed.wake_at, Millis(world.now + RETRY_MS));
    let third = world.woken_at(failed.wake_at.0);
    let done = world
        .happens(LessorEvent::Done(third.read.unwrap()))
        .answers;
    assert_eq!(done, [(2, alive(10, 10))]);
}

#[test]
fn a_member_that_lost_its_leadership_before_the_read_was_done_answers_nothing() {
    let mut world = World::leading();
    world.grant(7, 10);
    let read = world.request(1, 7, true).read.unwrap();
    for follows in [true, false] {
        if follows {
            world.soft_state.role = Role::Follower;
            world.soft_state.leader = PEER;
            let effects = world.happens(LessorEvent::Done(read));
            assert!(effects.answers.is_empty());
            // It goes to the new leader instead.
            let [(PEER, message)] = &effects.send[..] else {
                panic!("{effects:?}");
            };
            let Some(Message::LeaseRequest(request)) = &message.message else {
                panic!("{message:?}");
            };
            assert_eq!((request.renew, &request.ids[..]), (true, &[7][..]));
        } else {
            // It is elected again: the answer to the request of the term before counts no more.
            world.leads(9);
            assert!(world.happens(LessorEvent::Done(read)).answers.is_empty());
        }
    }
}

#[test]
fn a_new_leader_extends_every_lease() {
    let mut world = World::new();
    world.apply(Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 10 }));
    world.now = 500_000;
    world.leads(3);
    world.wait_until(500_000 + 10_000 + EXTENSION_MS - 1);
    let effects = world.woken_at(500_000 + 10_000 + EXTENSION_MS);
    assert_eq!(expired(&effects), [7]);
    let Op::LeaseExpire(expire) = &effects.propose[0].1 else {
        panic!("{effects:?}");
    };
    assert_eq!(expire.term, 3);
}

/// The requests that came meanwhile are processed after the time has passed.
#[test]
fn a_leader_that_stood_still_expires_nothing_at_once() {
    let mut world = World::leading();
    world.grant(7, 10);
    world.wait_until(2_000);
    let effects = world.woken_at(60_000);
    assert_eq!(expired(&effects), [0; 0]);
    assert_eq!(world.renew(7), alive(10, 10));
    world.wait_until(69_999);
    assert_eq!(expired(&world.woken_at(70_000)), [7]);
}

#[test]
fn many_leases_expire_in_batches_one_after_the_other() {
    let mut world = World::leading();
    for id in 1..=2_500 {
        world.apply(Op::LeaseGrant(LeaseGrantRequest { id, ttl: 10 }));
    }
    for key in 0..5_000 {
        world.apply(Op::Put(PutRequest {
            key: key.to_string().into(),
            lease: 2_500,
            ..PutRequest::default()
        }));
    }
    let changes = std::mem::take(&mut world.changes);
    world.happens(LessorEvent::Changed(changes));
    world.wait_until(11_000);
    let mut batches = Vec::new();
    let mut effects = world.woken();
    while let Some((number, op)) = effects.propose.pop() {
        assert!(world.woken().propose.is_empty(), "one at a time");
        batches.push(match &op {
            Op::LeaseExpire(expire) => expire.leases.len(),
            other => panic!("{other:?}"),
        });
        world.commits(op);
        effects = world.happens(LessorEvent::Done(number));
        if effects.propose.is_empty() {
            world.now += PAUSE_MS;
            effects = world.woken();
        }
    }
    // The last one has more keys than fit beside others.
    assert_eq!(batches, [1_000, 1_000, 499, 1]);
    assert!(world.state.view().leases().is_empty());
}

#[test]
fn an_expiry_with_an_unknown_outcome_is_proposed_again_and_the_lease_is_not_renewed() {
    let mut world = World::leading();
    world.grant(7, 10);
    world.wait_until(11_000);
    let number = world.woken().propose[0].0;
    world.happens(LessorEvent::Failed(number));
    assert!(world.request(1, 7, true).answers.is_empty());
    let effects = world.woken_at(11_000 + EXPIRE_AGAIN_MS);
    assert_eq!(expired(&effects), [7]);
    // It was revoked and granted again meanwhile: that lease is another one.
    let read = world.revoke(7).read.expect("a read");
    let answers = world.happens(LessorEvent::Done(read)).answers;
    assert_eq!(answers, [(1, LeaseOutcome::Absent)]);
    world.grant(7, 20);
    let (number, op) = effects.propose.into_iter().next().unwrap();
    world.commits(op);
    world.happens(LessorEvent::Done(number));
    assert_eq!(world.renew(7), alive(20, 20));
}

/// Found by seed 920 of the simulator. When the client was answered, the second grant was
/// committed, and not applied by the leader.
#[test]
fn a_renewal_that_waited_for_an_earlier_lease_of_its_id_is_answered_after_a_read() {
    let mut world = World::leading();
    world.grant(7, 10);
    world.wait_until(11_000);
    assert_eq!(expired(&world.woken()), [7]);
    assert!(world.request(1, 7, true).answers.is_empty());
    let effects = world.revoke(7);
    assert!(effects.answers.is_empty());
    world.grant(7, 20);
    let effects = world.happens(LessorEvent::Done(effects.read.expect("a read")));
    assert!(effects.answers.is_empty());
    let read = effects.read.expect("one after the renewal");
    let answers = world.happens(LessorEvent::Done(read)).answers;
    assert_eq!(answers, [(1, alive(20, 20))]);
}

#[test]
fn a_long_lease_is_checkpointed_and_its_renewal_waits_until_that_is_cleared() {
    let mut world = World::leading();
    world.grant(7, 1_000);
    world.woken_at(1_500);
    world.grant(8, 300);
    world.wait_until(301_000);
    let effects = world.woken();
    let [(number, op @ Op::LeaseCheckpoint(_))] = &effects.propose[..] else {
        panic!("{effects:?}");
    };
    // A renewal while the checkpoint is under way.
    let waits = world.request(1, 7, true);
    assert!(waits.answers.is_empty() && waits.read.is_none() && waits.propose.is_empty());
    world.apply(op.clone());
    assert_eq!((world.remaining(7), world.remaining(8)), (700, 0));
    let mut effects = world.happens(LessorEvent::Done(*number));
    let (number, op) = effects
        .propose
        .drain(..)
        .find(|(_, op)| matches!(op, Op::LeaseCheckpoint(_)))
        .expect("it is cleared");
    assert!(effects.read.is_none());
    world.apply(op);
    assert_eq!(world.remaining(7), 0);
    let read = world.happens(LessorEvent::Done(number)).read.unwrap();
    let answers = world.happens(LessorEvent::Done(read)).answers;
    assert_eq!(answers, [(1, alive(1_000, 1_000))]);
}

#[test]
fn a_new_leader_begins_with_the_remaining_time() {
    let mut world = World::leading();
    world.grant(7, 1_000);
    world.wait_until(301_000);
    let (_, op) = world.woken().propose.pop().unwrap();
    world.apply(op);
    world.leads(4);
    let read = world.request(1, 7, false).read.unwrap();
    let answers = world.happens(LessorEvent::Done(read)).answers;
    assert_eq!(answers, [(1, alive(701, 1_000))]);
}
