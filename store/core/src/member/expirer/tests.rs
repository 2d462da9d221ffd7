//! Each transition of the expirer, against a real tree.

use keelson_proto::internal::{TreeRequest, command::Op};

use super::*;
use crate::MemberId;
use crate::member::tests::{commit, empty_state};
use crate::state::StateMachine;

const GRACE_MS: u64 = 20_000;
const TIMEOUT_MS: u64 = 7_000;
/// The wall clock when the monotonic one is at 0: 2026-01-01. The tree ignores expiry times before
/// 2000.
const EPOCH_NS: i64 = 1_767_225_600_000_000_000;

/// An expirer, its member's tree, and the time.
struct World {
    expirer: Expirer,
    state: StateMachine,
    now: u64,
    soft_state: SoftState,
}

fn clock_ns(now_ms: u64) -> i64 {
    EPOCH_NS + (now_ms * MS_NS) as i64
}

impl World {
    fn new() -> World {
        World {
            expirer: Expirer::new(GRACE_MS, TIMEOUT_MS),
            state: empty_state(),
            now: 1_000,
            soft_state: SoftState {
                leader: MemberId(1),
                role: Role::Follower,
                term: Term(3),
            },
        }
    }

    /// A member that has begun to lead and has applied everything of earlier terms.
    fn leading() -> World {
        let mut world = World::new();
        world.lead(3);
        let number = world.started_read();
        world.happens(ExpirerEvent::Done(number));
        world
    }

    fn lead(&mut self, term: u64) {
        (self.soft_state.role, self.soft_state.term) = (Role::Leader, Term(term));
    }

    fn happens(&mut self, event: ExpirerEvent) -> ExpirerEffects {
        let (now, view) = (self.now, self.state.view());
        let (now, clock_ns) = (Millis(now), clock_ns(now));
        self.expirer
            .handle(now, clock_ns, self.soft_state, &view, event)
    }

    fn wakes_at(&mut self, now: u64) -> ExpirerEffects {
        self.now = now;
        self.happens(ExpirerEvent::Woken)
    }

    fn started_read(&mut self) -> u64 {
        let effects = self.happens(ExpirerEvent::Woken);
        assert!(effects.read_index && effects.propose.is_none());
        effects.number
    }

    /// Sets a file that expires at that time of the monotonic clock.
    fn set(&mut self, path: &'static str, end_ms: u64) {
        self.apply(Op::Tree(TreeRequest {
            path: path.as_bytes().into(),
            expires_ns: clock_ns(end_ms),
            time_ns: clock_ns(self.now),
            ..TreeRequest::default()
        }));
    }

    fn apply(&mut self, op: Op) {
        commit(&mut self.state, self.soft_state.term, op);
    }

    fn index(&self) -> u64 {
        self.state.view().tree_index()
    }
}

fn nothing_until(wake_at: u64) -> ExpirerEffects {
    ExpirerEffects {
        number: 0,
        read_index: false,
        propose: None,
        wake_at: Millis(wake_at),
    }
}

#[test]
fn a_follower_does_nothing() {
    let mut world = World::new();
    world.set("/1/a", 500);
    assert_eq!(world.wakes_at(1_000), nothing_until(u64::MAX));
    assert_eq!(
        world.happens(ExpirerEvent::Done(1)),
        nothing_until(u64::MAX)
    );
}

#[test]
fn a_leader_expires_nothing_before_it_has_applied_all_of_earlier_terms() {
    let mut world = World::new();
    world.set("/1/a", 500);
    world.lead(3);
    let number = world.started_read();
    let waits = nothing_until(1_000 + TIMEOUT_MS);
    assert_eq!(world.wakes_at(1_500), waits);
    // The rest of the earlier terms' entries is applied meanwhile, and is spared as well.
    world.set("/1/b", 1_600);
    let spared = world.index();
    world.now = 2_000;
    assert_eq!(
        world.happens(ExpirerEvent::Done(number)),
        nothing_until(2_050)
    );
    world.set("/1/c", 2_010);
    let proposal = TreeExpire {
        time_ns: clock_ns(2_050),
        spared_index: spared,
        term: 3,
    };
    assert_eq!(world.wakes_at(2_050).propose, Some(proposal));
}

#[test]
fn a_failed_read_is_repeated_after_a_pause() {
    let mut world = World::new();
    world.lead(3);
    let number = world.started_read();
    let paused = world.happens(ExpirerEvent::Failed(number));
    assert_eq!(paused, nothing_until(1_050));
    assert_eq!(
        world.wakes_at(1_049),
        nothing_until(1_050),
        "woken too soon"
    );
    let again = world.wakes_at(1_050);
    assert!(again.read_index && again.number != number);
}

#[test]
fn a_read_without_an_answer_is_given_up_after_the_timeout() {
    let mut world = World::new();
    world.lead(3);
    let first = world.started_read();
    let given_up = 1_000 + TIMEOUT_MS;
    assert_eq!(world.wakes_at(given_up), nothing_until(given_up + 50));
    let again = world.wakes_at(given_up + 50);
    assert!(again.read_index);
    // Its answer still arrives, and may be outdated.
    let late = world.happens(ExpirerEvent::Done(first));
    assert_eq!(late, nothing_until(given_up + 50 + TIMEOUT_MS));
}

#[test]
fn during_the_grace_what_was_set_before_is_spared_and_then_it_ends() {
    let mut world = World::new();
    world.set("/1/old", 500);
    world.lead(3);
    let number = world.started_read();
    world.happens(ExpirerEvent::Done(number));
    // Only the spared node is overdue: one tick at a time until the grace is over.
    assert_eq!(world.wakes_at(1_050), nothing_until(1_550));
    let end = 1_000 + GRACE_MS;
    assert_eq!(world.wakes_at(end - 1), nothing_until(end + 499));
    let proposal = TreeExpire {
        time_ns: clock_ns(end + 499),
        spared_index: 0,
        term: 3,
    };
    assert_eq!(world.wakes_at(end + 499).propose, Some(proposal));
}

#[test]
fn without_a_grace_nothing_is_spared() {
    let mut world = World::new();
    world.expirer = Expirer::new(0, TIMEOUT_MS);
    world.set("/1/old", 500);
    world.lead(3);
    let number = world.started_read();
    world.happens(ExpirerEvent::Done(number));
    let proposed = world.wakes_at(1_050).propose.expect("it is overdue");
    assert_eq!(proposed.spared_index, 0);
}

#[test]
fn it_wakes_when_the_next_node_expires_within_the_tick_and_the_pause() {
    let mut world = World::leading();
    assert_eq!(world.wakes_at(1_050), nothing_until(1_550), "nothing ends");
    world.set("/1/later", 9_000);
    assert_eq!(world.wakes_at(1_550), nothing_until(2_050), "the tick");
    world.set("/1/soon", 2_350);
    assert_eq!(world.wakes_at(2_050), nothing_until(2_350), "the end");
    world.set("/1/sooner", 2_310);
    assert_eq!(world.wakes_at(2_300), nothing_until(2_350), "not yet");
    // An expiry between two milliseconds is awaited until it has passed.
    let mut world = World::leading();
    world.apply(Op::Tree(TreeRequest {
        path: b"/1/a"[..].into(),
        expires_ns: clock_ns(1_150) + 1,
        time_ns: clock_ns(world.now),
        ..TreeRequest::default()
    }));
    assert_eq!(world.wakes_at(1_050), nothing_until(1_151));
    let mut world = World::leading();
    world.set("/1/at_once", 1_051);
    assert_eq!(world.wakes_at(1_050), nothing_until(1_100), "the pause");
}

#[test]
fn between_two_proposals_there_is_a_pause() {
    let mut world = World::leading();
    world.set("/1/a", 1_010);
    let proposed = world.wakes_at(1_050);
    let expire = proposed.propose.expect("it is overdue");
    assert_eq!(proposed.wake_at, Millis(1_050 + TIMEOUT_MS));
    assert_eq!(world.wakes_at(1_060), nothing_until(1_050 + TIMEOUT_MS));
    world.apply(Op::TreeExpire(expire));
    world.set("/1/b", 1_060);
    world.now = 1_070;
    let applied = world.happens(ExpirerEvent::Done(proposed.number));
    assert_eq!(applied, nothing_until(1_120));
    let next = world.wakes_at(1_120).propose.expect("it is overdue");
    assert_eq!(next.time_ns, clock_ns(1_120));
}

#[test]
fn a_refused_proposal_is_followed_by_a_new_one() {
    let mut world = World::leading();
    world.set("/1/a", 1_010);
    let proposed = world.wakes_at(1_050);
    let refused = world.happens(ExpirerEvent::Failed(proposed.number));
    assert_eq!(refused, nothing_until(1_100));
    let again = world.wakes_at(1_100);
    assert_eq!(again.propose.map(|expire| expire.term), Some(3));
    assert_ne!(again.number, proposed.number);
}

#[test]
fn a_proposal_with_an_unknown_outcome_times_out() {
    let mut world = World::leading();
    world.set("/1/a", 1_010);
    let first = world.wakes_at(1_050);
    let given_up = 1_050 + TIMEOUT_MS;
    assert_eq!(world.wakes_at(given_up), nothing_until(given_up + 50));
    let second = world.wakes_at(given_up + 50);
    assert!(second.propose.is_some());
    let late = world.happens(ExpirerEvent::Done(first.number));
    assert_eq!(late.wake_at, second.wake_at, "the second is waited for");
}

#[test]
fn a_new_term_begins_anew_and_ignores_answers_of_the_one_before() {
    let mut world = World::leading();
    world.set("/1/a", 1_010);
    let proposed = world.wakes_at(1_050);
    assert!(proposed.propose.is_some());
    world.soft_state.role = Role::Follower;
    assert_eq!(world.wakes_at(1_100), nothing_until(u64::MAX));
    world.lead(5);
    let read = world.wakes_at(1_200);
    assert!(read.read_index, "at once, and although there was a reign");
    let late = world.happens(ExpirerEvent::Done(proposed.number));
    assert_eq!(late.wake_at, Millis(1_200 + TIMEOUT_MS));
    world.happens(ExpirerEvent::Done(read.number));
    // Set in term 3, and spared in this tenure.
    assert_eq!(world.wakes_at(1_250), nothing_until(1_750));
}

/// The soft state may change twice between two calls.
#[test]
fn a_term_that_follows_at_once_begins_anew_too() {
    let mut world = World::leading();
    world.lead(5);
    assert!(world.wakes_at(1_010).read_index);
}
