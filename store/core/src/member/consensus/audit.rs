//! Consensus's part in the comparison of hashes: messages, proposals, and the state that a member
//! which differs is given.

use keelson_proto::internal::{Command, command::Op};
use keelson_proto::peer::{self, PeerMessage, RaftMessage, peer_message::Message};
use prost::Message as _;

use super::transfers::FailedTransfers;
use super::{Consensus, ConsensusEffects};
use crate::member::auditor::AuditNote;
use crate::member::offered;
use crate::node::{Input, Role};
use crate::state::{HASH_SCHEME, HashReport};
use crate::{Index, LastIncluded, MemberId, Millis, ProposalId};

/// The counters of consensus's own proposals have this bit; those of clients are smaller.
const OWN: u64 = 1 << 63;

impl Consensus {
    fn leads(&self) -> bool {
        self.node.status().soft_state.role == Role::Leader
    }

    /// Takes a report of the applier.
    pub(super) fn note_audit(&mut self, now: Millis, note: AuditNote) {
        match note {
            AuditNote::State {
                admitted,
                divergence,
                applied,
            } => {
                self.auditor.admit(admitted);
                if self.healer.note(now, divergence, applied) {
                    self.drop_capture();
                }
            }
            AuditNote::Applied(index, outcome) => {
                let (me, _) = self.node.identity();
                self.auditor.applied(now, me, index, outcome);
            }
        }
    }

    /// Drops the capture, so that a state that differs does not spread.
    fn drop_capture(&mut self) {
        self.capture_requested = false;
        if let Some((capture, _)) = self.capture.take() {
            let last_included = LastIncluded::from(capture.mark());
            self.inputs.push(Input::SnapshotReleased { last_included });
        }
    }

    fn send_report(&self, report: HashReport, effects: &mut ConsensusEffects) {
        let leader = self.node.status().soft_state.leader;
        if self.leads() || leader == MemberId::NONE {
            return;
        }
        let report = peer::HashReport {
            index: report.index.0,
            scheme: report.value.map_or(0, |_| HASH_SCHEME),
            value: report.value.unwrap_or(0),
        };
        let message = Some(Message::HashReport(report));
        effects.send.push((leader, PeerMessage { message }));
    }

    /// Takes a message, if it is about the comparison.
    pub(super) fn take_audit(
        &mut self,
        now: Millis,
        from: MemberId,
        message: &PeerMessage,
    ) -> bool {
        match &message.message {
            Some(Message::HashReport(report)) => {
                let value = (report.scheme == HASH_SCHEME).then_some(report.value);
                let index = Index(report.index);
                self.auditor.report(from, HashReport { index, value });
            }
            Some(Message::StateRequest(request)) => {
                let needs = Index(request.index);
                let status = self.node.status();
                self.healer.requested(now, from, needs, &status);
            }
            _ => return false,
        }
        true
    }

    /// The leader's state has come, for a member that differs. It replaces the state alone: the log
    /// is right.
    pub(super) fn take_state(&mut self, offer: &RaftMessage, effects: &mut ConsensusEffects) {
        let mark = offered(offer).filter(|mark| self.healer.takes(mark.index));
        effects.install = mark.or(effects.install);
    }

    /// Proposes, requests and sends what is due.
    pub(super) fn audit(&mut self, now: Millis, effects: &mut ConsensusEffects) {
        let status = self.node.status();
        let leads = status.soft_state.role == Role::Leader;
        if !leads {
            self.healer.resign();
            self.transfers = FailedTransfers::default();
        }
        effects
            .send
            .extend(self.healer.due(now, &status, &mut self.inputs));
        if let Some(report) = self.auditor.report_due(now) {
            self.send_report(report, effects);
        }
        // A leader that differs has a vote as any other, and hands over meanwhile.
        let voters = || self.node.voters();
        let proposal = self.auditor.propose(now, status.committed, leads, voters);
        if let Some(op) = proposal {
            self.propose_own(op);
        }
        if let Some(needs) = self.healer.capture_needed(now) {
            self.serve(needs, effects);
        }
    }

    fn propose_own(&mut self, op: Op) {
        let (member, incarnation) = self.node.identity();
        self.own_proposals += 1;
        let id = ProposalId {
            member,
            incarnation,
            counter: OWN | self.own_proposals,
        };
        let command = Command { op: Some(op) }.encode_to_vec().into();
        self.inputs.push(Input::Propose { id, command });
    }

    /// Sends the state to the member that is served, from a capture that includes enough.
    fn serve(&mut self, needs: Index, effects: &mut ConsensusEffects) {
        let has_enough = |capture: &crate::state::Capture| needs.0 <= capture.mark().index;
        let Some((capture, _)) = self.capture.as_ref().filter(|held| has_enough(&held.0)) else {
            return self.request_capture(effects);
        };
        let (status, (me, _)) = (self.node.status(), self.node.identity());
        if let Some((to, offer)) = self.healer.offer(&status, me, capture) {
            effects.snapshots.push((to, offer, capture.clone()));
        }
    }

    /// Takes out the refusals of consensus's own proposals.
    pub(super) fn drop_own_refusals(&mut self, effects: &mut ConsensusEffects) {
        let before = effects.refused.len();
        effects.refused.retain(|(id, _)| id.counter & OWN == 0);
        if effects.refused.len() != before {
            self.auditor.refused();
        }
    }
}
