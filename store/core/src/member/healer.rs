//! A member that differs from the majority gets the leader's state.
//!
//! Its log is right, and it goes on appending and voting. It requests the state again and again
//! until it has one, and at growing intervals if it differs again. The leader serves one member at
//! a time, from a capture that includes the verdict. Leadership is handed over first.

use keelson_proto::peer::{self, PeerMessage, RaftMessage, RaftSnapshotMeta, peer_message};

use crate::node::{Input, NodeStatus, Role, SNAPSHOT};
use crate::state::{Capture, Divergence};
use crate::{Index, MemberId, Millis};

/// The interval of requests to the leader, in milliseconds.
const REQUEST_MS: u64 = 2_000;
/// The interval of attempts to hand leadership over, in milliseconds.
const TRANSFER_MS: u64 = 1_000;
/// The pause before the first request after a second divergence within `CALM_MS`; it doubles with
/// each, up to `PAUSE_MAX_MS`.
const PAUSE_MS: u64 = 10_000;
/// The longest pause before a request, in milliseconds.
const PAUSE_MAX_MS: u64 = 10 * 60_000;
/// Divergences that are further apart have nothing to do with each other.
const CALM_MS: u64 = 60 * 60_000;
/// The time after which the leader serves the next member although nothing is known of the last.
const SERVE_MS: u64 = 10 * 60_000;
/// The pause between two members that are served.
const SERVE_PAUSE_MS: u64 = 1_000;

/// The replacement of a state that differs.
#[derive(Debug)]
struct Replacement {
    /// The least index that helps.
    needs: Index,
    request_at: Millis,
    /// When leadership is next given up, if this member has it.
    transfer_at: Millis,
}

/// The member that this leader serves.
#[derive(Clone, Copy, Debug)]
struct Served {
    to: MemberId,
    needs: Index,
    is_sent: bool,
    until: Millis,
}

/// Both sides of it.
#[derive(Debug, Default)]
pub(super) struct Healer {
    replacement: Option<Replacement>,
    /// The number of divergences that followed each other, and when the last was found.
    divergences: (u32, Millis),
    served: Option<Served>,
    serve_at: Millis,
}

impl Healer {
    /// Whether this member serves no client.
    pub(super) fn is_fenced(&self) -> bool {
        self.replacement.is_some()
    }

    /// The applier's state. Returns whether this changes anything.
    pub(super) fn note(
        &mut self,
        now: Millis,
        divergence: Option<Divergence>,
        applied: Index,
    ) -> bool {
        if divergence.is_some() == self.is_fenced() {
            return false;
        }
        self.replacement = divergence.map(|_| Replacement {
            needs: applied,
            request_at: Millis(now.0 + self.pause_ms(now)),
            transfer_at: now,
        });
        self.served = None;
        true
    }

    /// The pause before the first request.
    fn pause_ms(&mut self, now: Millis) -> u64 {
        let (count, last) = self.divergences;
        let count = if last.0 + CALM_MS < now.0 { 0 } else { count };
        self.divergences = (count + 1, now);
        match count {
            0 => 0,
            again => (PAUSE_MS << (again - 1).min(16)).min(PAUSE_MAX_MS),
        }
    }

    /// Whether a received state may replace this one.
    pub(super) fn takes(&self, offered: Index) -> bool {
        let replacement = self.replacement.as_ref();
        replacement.is_some_and(|replacement| replacement.needs <= offered)
    }

    /// What is due on a member that differs: a request to the leader, or to give up leadership.
    pub(super) fn due(
        &mut self,
        now: Millis,
        status: &NodeStatus,
        inputs: &mut Vec<Input>,
    ) -> Option<(MemberId, PeerMessage)> {
        let replacement = self.replacement.as_mut()?;
        let soft_state = status.soft_state;
        if soft_state.role == Role::Leader {
            if replacement.transfer_at <= now {
                replacement.transfer_at = Millis(now.0 + TRANSFER_MS);
                inputs.push(Input::TransferLeader(None));
            }
            return None;
        }
        if now < replacement.request_at || soft_state.leader == MemberId::NONE {
            return None;
        }
        replacement.request_at = Millis(now.0 + REQUEST_MS);
        let request = peer::StateRequest {
            index: replacement.needs.0,
        };
        let message = Some(peer_message::Message::StateRequest(request));
        Some((soft_state.leader, PeerMessage { message }))
    }

    /// A member requests this one's state. A request for more than was delivered to this state
    /// machine is ignored: no capture would have enough, and the member repeats it.
    pub(super) fn requested(
        &mut self,
        now: Millis,
        from: MemberId,
        needs: Index,
        status: &NodeStatus,
    ) {
        let is_free = self.served.is_none_or(|served| served.until <= now);
        let is_due = is_free && self.serve_at <= now;
        let leads = status.soft_state.role == Role::Leader;
        if leads && is_due && needs <= status.delivered && !self.is_fenced() {
            self.served = Some(Served {
                to: from,
                needs,
                is_sent: false,
                until: Millis(now.0 + SERVE_MS),
            });
        }
    }

    /// This member does not lead: others are the next leader's to serve.
    pub(super) fn resign(&mut self) {
        self.served = None;
    }

    /// The index that a capture must include, while a member waits for one.
    pub(super) fn capture_needed(&mut self, now: Millis) -> Option<Index> {
        let is_late = |served: &mut Served| !served.is_sent && served.until <= now;
        self.served.take_if(is_late);
        let served = self.served.filter(|served| !served.is_sent);
        served.map(|served| served.needs)
    }

    /// The offer of that capture, if a member waits for it.
    pub(super) fn offer(
        &mut self,
        status: &NodeStatus,
        me: MemberId,
        capture: &Capture,
    ) -> Option<(MemberId, RaftMessage)> {
        let served = self.served.as_mut().filter(|served| !served.is_sent)?;
        let mark = capture.mark();
        if mark.index < served.needs.0 {
            return None;
        }
        served.is_sent = true;
        let offer = RaftMessage {
            kind: SNAPSHOT,
            to: served.to.0,
            from: me.0,
            term: status.soft_state.term.0,
            snapshot: Some(RaftSnapshotMeta {
                index: mark.index,
                term: mark.term,
                conf_state: mark.conf_state.clone(),
            }),
            // It replaces the state alone.
            request_snapshot: served.needs.0.max(1),
            ..RaftMessage::default()
        };
        Some((served.to, offer))
    }

    /// A transfer to that member has ended. Returns whether it was this one's.
    pub(super) fn sent(&mut self, now: Millis, to: MemberId) -> bool {
        let ours = |served: &mut Served| served.is_sent && served.to == to;
        let is_ours = self.served.take_if(ours).is_some();
        if is_ours {
            self.serve_at = Millis(now.0 + SERVE_PAUSE_MS);
        }
        is_ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Term;
    use crate::node::SoftState;

    fn status(role: Role, leader: u64) -> NodeStatus {
        NodeStatus {
            soft_state: SoftState {
                leader: MemberId(leader),
                role,
                term: Term(3),
            },
            shown_term: Term(3),
            last: Index(12),
            committed: Index(11),
            delivered: Index(9),
            first: Index(1),
            log_bytes: 0,
        }
    }

    const DIVERGENCE: Option<Divergence> = Some(Divergence {
        index: Index(5),
        own: 1,
        agreed: 2,
    });

    #[test]
    fn a_leader_that_differs_hands_over_and_a_follower_requests_the_state() {
        let mut healer = Healer::default();
        assert!(healer.note(Millis(5), DIVERGENCE, Index(6)));
        let mut inputs = Vec::new();
        let leads = status(Role::Leader, 1);
        assert!(healer.due(Millis(5), &leads, &mut inputs).is_none());
        assert!(matches!(inputs[..], [Input::TransferLeader(None)]));
        let follows = status(Role::Follower, 2);
        let (to, _) = healer
            .due(Millis(5), &follows, &mut inputs)
            .expect("a request");
        assert_eq!(to, MemberId(2));
        assert!(healer.due(Millis(6), &follows, &mut inputs).is_none());
        let later = Millis(5 + REQUEST_MS);
        assert!(healer.due(later, &follows, &mut inputs).is_some());
        assert!(healer.takes(Index(6)) && !healer.takes(Index(5)));
        assert!(healer.note(later, None, Index(7)));
        assert!(!healer.takes(Index(9)));
    }

    /// A member with a fault of its memory would request the state again and again.
    #[test]
    fn the_pauses_before_further_requests_grow() {
        let mut healer = Healer::default();
        let follows = status(Role::Follower, 2);
        let mut waits = Vec::new();
        let mut now = 1_000;
        for _ in 0..9 {
            healer.note(Millis(now), DIVERGENCE, Index(6));
            let found = now;
            while healer.due(Millis(now), &follows, &mut Vec::new()).is_none() {
                now += 1_000;
            }
            waits.push((now - found) / 1_000);
            healer.note(Millis(now), None, Index(7));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
        now += CALM_MS + 1;
        healer.note(Millis(now), DIVERGENCE, Index(6));
        assert!(healer.due(Millis(now), &follows, &mut Vec::new()).is_some());
    }

    #[test]
    fn one_member_is_served_at_a_time() {
        let mut healer = Healer::default();
        let (leads, follows) = (status(Role::Leader, 1), status(Role::Follower, 2));
        healer.requested(Millis(9), MemberId(2), Index(6), &leads);
        healer.requested(Millis(9), MemberId(3), Index(4), &leads);
        assert_eq!(healer.capture_needed(Millis(9)), Some(Index(6)));
        assert!(
            !healer.sent(Millis(10), MemberId(2)),
            "nothing was sent yet"
        );
        healer.resign();
        healer.requested(Millis(11), MemberId(3), Index(4), &follows);
        assert_eq!(healer.capture_needed(Millis(11)), None);
        healer.requested(Millis(11), MemberId(3), Index(4), &leads);
        assert_eq!(healer.capture_needed(Millis(11)), Some(Index(4)));
        assert_eq!(
            healer.capture_needed(Millis(11 + SERVE_MS)),
            None,
            "it is given up"
        );
    }

    /// No capture had enough, and each step of the leader requested another one.
    #[test]
    fn a_request_for_more_than_was_delivered_is_ignored() {
        let mut healer = Healer::default();
        let leads = status(Role::Leader, 1);
        for index in [u64::MAX, 12, 11, 10] {
            healer.requested(Millis(9), MemberId(2), Index(index), &leads);
            assert_eq!(healer.capture_needed(Millis(9)), None);
        }
        healer.requested(Millis(9), MemberId(3), Index(9), &leads);
        assert_eq!(healer.capture_needed(Millis(9)), Some(Index(9)));
    }
}
