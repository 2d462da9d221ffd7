//! Requests that cannot be handed to the leader, or that it must not take.

use bytes::Bytes;
use keelson_core::node::{APPEND, Refusal};

use super::*;
use crate::member::applier::Applier;
use crate::member::fatal::tests::{ME, member, returning};

const LEADER: MemberId = MemberId(2);

fn from_leader(message: peer_message::Message) -> Event {
    let message = PeerMessage {
        message: Some(message),
    };
    Event::Peer(LEADER, vec![message], 0)
}

/// It follows a leader to which it has no link yet.
fn follower(turns: &Arc<Turns>) -> (Arc<Waiters>, crossbeam::channel::Receiver<LogJob>) {
    let (driver, applier, log_jobs) = member(turns, &returning().0);
    let Applier { waiters, .. } = &applier;
    let waiters = Arc::clone(waiters);
    turns.begin(driver, applier);
    let append = RaftMessage {
        kind: APPEND,
        to: ME.0,
        from: LEADER.0,
        term: 2,
        log_term: 1,
        index: 1,
        ..RaftMessage::default()
    };
    let append = from_leader(peer_message::Message::Raft(append));
    turns.send(append).expect("it runs");
    (waiters, log_jobs)
}

/// Its client waited for seven seconds, and did not learn that nothing was done.
#[tokio::test]
async fn a_request_that_cannot_be_handed_over_is_refused_at_once() {
    let turns = Turns::new();
    let (waiters, _log_jobs) = follower(&turns);
    let (id, mut outcome) = waiters.add();
    let command = Bytes::from_static(b"a command");
    let propose = Event::Input(Input::Propose { id, command });
    turns.send(propose).expect("it runs");
    // What the turn left is for the next one.
    turns.drive_if_calm();
    let outcome = outcome.try_recv().expect("an outcome");
    assert!(
        matches!(outcome, Outcome::Refused(Refusal::LeaderChanged)),
        "{outcome:?}"
    );
}
