//! Requests on their way to the leader.

use keelson_proto::internal::HashCheck;
use keelson_proto::internal::hash_check::Step;

use super::*;
use crate::state::HASH_SCHEME;

#[test]
fn a_follower_sends_requests_in_one_message_and_again_until_a_leader_answers() {
    let mut world = World::new();
    world.soft_state.leader = MemberId::NONE;
    assert!(world.request(1, 7, true).send.is_empty());
    world.request(2, 7, true);
    world.request(3, 8, true);
    world.soft_state.leader = PEER;
    let sent = |effects: LessorEffects| match &effects.send[..] {
        [(PEER, message)] => match &message.message {
            Some(Message::LeaseRequest(request)) => request.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let request = sent(world.woken());
    assert_eq!(request.ids, [7, 8]);
    assert!(world.woken().send.is_empty());
    let answer = |context, boot, leads, times| {
        LessorEvent::Peer(
            PEER,
            LeaseMessage::Answer(LeaseAnswer {
                context,
                boot,
                leads,
                times,
            }),
        )
    };
    let times = |ids: &[i64]| -> Vec<LeaseTime> {
        ids.iter().map(|id| alive(*id, *id).time(*id)).collect()
    };
    // For an earlier incarnation.
    let stale = answer(request.context, 4, true, times(&[7, 8]));
    assert!(world.happens(stale).answers.is_empty());
    let some = answer(request.context, 5, true, times(&[7]));
    assert_eq!(
        world.happens(some).answers,
        [(1, alive(7, 7)), (2, alive(7, 7))]
    );
    // The other one is not answered: it is sent again, and that member does not lead.
    let again = sent(world.woken_at(1_500));
    assert_eq!(again.ids, [8]);
    world.happens(answer(again.context, 5, false, Vec::new()));
    let again = sent(world.woken_at(1_550));
    let absent = vec![LeaseOutcome::Absent.time(8)];
    let done = world.happens(answer(again.context, 5, true, absent));
    assert_eq!(done.answers, [(3, LeaseOutcome::Absent)]);
    assert_eq!(done.wake_at, Millis(u64::MAX));
}

#[test]
fn a_leader_answers_followers_and_a_follower_refuses_them() {
    let mut world = World::leading();
    world.grant(7, 10);
    let request = LeaseRequest {
        context: 3,
        boot: 9,
        renew: true,
        ids: vec![7, 8],
    };
    let event = || LessorEvent::Peer(PEER, LeaseMessage::Request(request.clone()));
    let answer = |effects: LessorEffects| match &effects.send[..] {
        [(PEER, message)] => match &message.message {
            Some(Message::LeaseAnswer(answer)) => answer.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let read = world.happens(event()).read.unwrap();
    let answered = answer(world.happens(LessorEvent::Done(read)));
    assert_eq!(
        (answered.context, answered.boot, answered.leads),
        (3, 9, true)
    );
    let expected = [alive(10, 10).time(7), LeaseOutcome::Absent.time(8)];
    assert_eq!(answered.times, expected);
    world.soft_state.role = Role::Follower;
    let refused = answer(world.happens(event()));
    assert!(!refused.leads && refused.times.is_empty());
}

#[test]
fn a_request_without_a_leader_ends_with_its_deadline() {
    let mut world = World::new();
    world.soft_state.leader = MemberId::NONE;
    world.request(1, 7, false);
    assert!(world.woken_at(7_000).answers.is_empty());
    let answers = world.woken_at(9_000).answers;
    assert_eq!(answers, [(1, LeaseOutcome::TimedOut)]);
    assert_eq!(world.woken().wake_at, Millis(u64::MAX));
}

#[test]
fn missed_changes_are_found_in_the_state() {
    let mut world = World::leading();
    world.grant(7, 10);
    world.wait_until(11_000);
    world.woken();
    assert!(
        world.request(1, 7, true).answers.is_empty(),
        "it is expiring"
    );
    world.apply(Op::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
    world.apply(Op::LeaseGrant(LeaseGrantRequest { id: 8, ttl: 10 }));
    let read = world.happens(LessorEvent::Missed).read.expect("a read");
    let effects = world.happens(LessorEvent::Done(read));
    assert_eq!(effects.answers, [(1, LeaseOutcome::Absent)]);
    assert_eq!(world.renew(8), alive(10, 10));
}

/// It answered from its state, although that is not the majority's.
#[test]
fn a_leader_that_differs_refuses_followers_requests() {
    let mut world = World::leading();
    world.grant(7, 10);
    let check = |step: Step, index, value| {
        Op::HashCheck(HashCheck {
            step: step.into(),
            scheme: HASH_SCHEME,
            index,
            value,
        })
    };
    commit(&mut world.state, Term(3), check(Step::Begin, 0, 0));
    commit(&mut world.state, Term(3), check(Step::Compare, 0, 0));
    let compared = world.state.applied().index;
    commit(&mut world.state, Term(3), check(Step::Verdict, compared, 5));
    assert!(world.state.view().is_fenced());
    let request = LeaseRequest {
        context: 3,
        boot: 9,
        renew: true,
        ids: vec![7],
    };
    let done = world.happens(LessorEvent::Peer(PEER, LeaseMessage::Request(request)));
    let [(PEER, message)] = &done.send[..] else {
        panic!("{done:?}");
    };
    let Some(Message::LeaseAnswer(answer)) = &message.message else {
        panic!("{message:?}");
    };
    assert!(!answer.leads && answer.times.is_empty());
    assert!(done.read.is_none() && done.propose.is_empty());
}
