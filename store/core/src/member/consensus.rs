//! Consensus, which owns the node.
//!
//! It converts peers' messages to inputs, keeps the captured state that is sent to followers, and
//! orders the effects of a step. No message that promises durability leaves before the append is
//! durable. The log never restarts at a snapshot before the state machine has been replaced by it.

mod audit;
mod transfers;

use std::collections::BTreeSet;

use keelson_proto::peer::refused::Reason;
use keelson_proto::peer::{self, PeerMessage, RaftMessage, peer_message};

use self::transfers::FailedTransfers;
use super::auditor::{AuditNote, Auditor};
use super::healer::Healer;
use super::messages::{UnfitForward, input_of, of_leases, refused};
use super::{ApplierEvent, AuditPolicy, LeaseMessage};
use crate::node::{Append, Input, LogLost, Node, NodeStatus, Output, Refusal, SoftState};
use crate::state::Capture;
use crate::{LastIncluded, MemberId, Millis, ProposalId, Roster};

/// An event for consensus.
#[derive(Debug)]
pub enum ConsensusEvent {
    /// An input for the node, passed on unchanged.
    Input(Input),
    /// Messages from a peer.
    Peer(MemberId, Vec<PeerMessage>),
    /// Requests that a peer forwarded and that were dropped for lack of room.
    ForwardsRejected(MemberId, Vec<peer::ProposalId>),
    /// A request that could not be forwarded to the leader: it is certainly not in the log.
    ForwardFailed(peer::ProposalId, Reason),
    /// The captured state, in answer to `ApplierEvent::Capture`.
    Captured(Capture),
    /// A report of the applier about the comparison of hashes.
    Audit(AuditNote),
    /// A snapshot has been received completely. The effects of this step install it, unless it is
    /// stale.
    SnapshotStaged {
        /// The sender's `MsgSnapshot`.
        offer: RaftMessage,
        /// The members in the snapshot's state.
        roster: Box<Roster>,
    },
}

/// Effects of a step, to be carried out in the order of the fields.
#[derive(Debug, Default)]
pub struct ConsensusEffects {
    /// Messages that may leave now: they promise nothing that is not durable yet.
    pub send: Vec<(MemberId, PeerMessage)>,
    /// The staged snapshot of this position must replace the state machine before the append
    /// reaches the log.
    pub install: Option<LastIncluded>,
    /// The log write; report it with `Input::Persisted` once durable.
    pub append: Option<Append>,
    /// Entries up to this one are no longer needed in the log.
    pub truncate: Option<LastIncluded>,
    /// Events for the applier, in order.
    pub work: Vec<ApplierEvent>,
    /// Requests of this member that are certainly in no log and never will be.
    pub refused: Vec<(ProposalId, Refusal)>,
    /// Snapshots to send, each from the start of its capture; report them with
    /// `Input::SnapshotSent`.
    pub snapshots: Vec<(MemberId, RaftMessage, Capture)>,
    /// The leader, this member's role or the term changed.
    pub soft_state: Option<SoftState>,
    /// Messages for the lessor, after the soft state.
    pub leases: Vec<(MemberId, LeaseMessage)>,
    /// This member is no longer part of the cluster.
    pub removed: bool,
    /// Entries that this member has acknowledged are missing from its log: it must stop.
    pub lost: Option<LogLost>,
    /// The latest time of the next call.
    pub wake_at: Millis,
    /// The size of the step: the number of inputs, and of entries to append and to apply.
    pub load: usize,
}

/// The node, and the captured state for followers.
pub struct Consensus {
    node: Node,
    /// Inputs for the next step.
    inputs: Vec<Input>,
    /// The capture, and the time when it was last sent.
    capture: Option<(Capture, Millis)>,
    capture_requested: bool,
    capture_kept_ms: u64,
    auditor: Auditor,
    healer: Healer,
    /// The number of proposals of its own.
    own_proposals: u64,
    transfers: FailedTransfers,
}

impl Consensus {
    /// Consensus with this node. A capture is released after `capture_kept_ms` without a transfer,
    /// since it delays compaction.
    pub fn new(node: Node, capture_kept_ms: u64) -> Consensus {
        Consensus {
            node,
            inputs: Vec::new(),
            capture: None,
            capture_requested: false,
            capture_kept_ms,
            auditor: Auditor::new(AuditPolicy::default()),
            healer: Healer::default(),
            own_proposals: 0,
            transfers: FailedTransfers::default(),
        }
    }

    /// The same, with other times of the comparison of hashes.
    pub fn with_audits(self, policy: AuditPolicy) -> Consensus {
        Consensus {
            auditor: Auditor::new(policy),
            ..self
        }
    }

    /// The node's log positions and soft state.
    pub fn status(&self) -> NodeStatus {
        self.node.status()
    }

    /// The voters, as of the last committed entry.
    pub fn voters(&self) -> Vec<MemberId> {
        self.node.voters()
    }

    /// Processes events in one step of the node, and returns the effects.
    pub fn handle(
        &mut self,
        now: Millis,
        events: impl IntoIterator<Item = ConsensusEvent>,
    ) -> ConsensusEffects {
        let mut effects = ConsensusEffects::default();
        self.release_capture(now);
        for event in events {
            self.take(now, event, &mut effects);
        }
        self.audit(now, &mut effects);
        let cancelled = self.cancelled_reads();
        self.drop_cancelled();
        effects.load = self.inputs.len();
        let mut output = self.node.step(now, self.inputs.drain(..));
        effects.send.append(&mut output.send);
        self.persist(&mut output, &mut effects);
        self.apply(&mut output, &mut effects);
        // After the reads: a cancelled one may have been answered in this step.
        effects.work.extend(cancelled);
        effects.refused = output.refused;
        self.drop_own_refusals(&mut effects);
        for (to, offer) in output.snapshots {
            self.send_snapshot(now, to, offer, &mut effects);
        }
        effects.soft_state = output.soft_state;
        effects.removed = output.removed;
        effects.lost = output.lost;
        effects.wake_at = match self.inputs.is_empty() {
            true => output.wake_at,
            false => now,
        };
        effects
    }

    fn take(&mut self, now: Millis, event: ConsensusEvent, effects: &mut ConsensusEffects) {
        match event {
            ConsensusEvent::Input(Input::SnapshotSent { to, .. }) if self.healer.sent(now, to) => {}
            ConsensusEvent::Input(input) => {
                self.note_transfers(now, &input);
                self.inputs.push(input);
            }
            ConsensusEvent::Peer(from, messages) => {
                for mut message in messages {
                    if let Some(message) = of_leases(&mut message) {
                        effects.leases.push((from, message));
                        continue;
                    }
                    if self.take_audit(now, from, &message) {
                        continue;
                    }
                    match input_of(from, message) {
                        Ok(input) => self.inputs.extend(input),
                        Err(UnfitForward(id)) => reject(from, id, effects),
                    }
                }
            }
            ConsensusEvent::ForwardsRejected(from, forwarded) => {
                for id in forwarded {
                    reject(from, id, effects);
                }
            }
            ConsensusEvent::ForwardFailed(id, reason) => {
                self.inputs.push(Input::Refused(refused(id, reason)))
            }
            ConsensusEvent::Captured(capture) => self.captured(now, capture),
            ConsensusEvent::Audit(note) => self.note_audit(now, note),
            ConsensusEvent::SnapshotStaged { offer, .. } if offer.request_snapshot != 0 => {
                self.take_state(&offer, effects);
            }
            ConsensusEvent::SnapshotStaged { offer, roster } => {
                self.inputs.push(Input::SnapshotReceived { offer, roster });
            }
        }
    }

    /// Cancelled reads, for the applier: it may already have them.
    fn cancelled_reads(&self) -> Vec<ApplierEvent> {
        let cancelled = self.inputs.iter().filter_map(|input| match input {
            Input::ReadCancelled { context } => {
                Some(ApplierEvent::ReadCancelled { context: *context })
            }
            _ => None,
        });
        cancelled.collect()
    }

    /// Drops requests whose client left before this step.
    fn drop_cancelled(&mut self) {
        let cancelled = self.inputs.iter().filter_map(|input| match input {
            Input::ProposalCancelled { id } => Some(*id),
            _ => None,
        });
        let cancelled: BTreeSet<ProposalId> = cancelled.collect();
        if cancelled.is_empty() {
            return;
        }
        self.inputs.retain(|input| match input {
            Input::Propose { id, .. } | Input::ProposeMembership { id, .. } => {
                !cancelled.contains(id)
            }
            _ => true,
        });
    }

    /// A snapshot that the node accepted replaces the state machine before the log restarts at it.
    /// A crash in between is repaired at the next start.
    fn persist(&mut self, output: &mut Output, effects: &mut ConsensusEffects) {
        if let Some(append) = output.append.take() {
            effects.load += append.entries.len();
            let restored = append.snapshot.as_ref().map(|(mark, _)| *mark);
            effects.install = restored.or(effects.install);
            effects.append = Some(append);
        }
        effects.truncate = output.truncate.take();
    }

    fn apply(&mut self, output: &mut Output, effects: &mut ConsensusEffects) {
        if !output.apply.is_empty() {
            effects.load += output.apply.len();
            let entries = std::mem::take(&mut output.apply);
            effects.work.push(ApplierEvent::Committed(entries));
        }
        effects
            .work
            .extend(output.reads.drain(..).map(ApplierEvent::Read));
        if output.snapshot_wanted {
            self.request_capture(effects);
        }
    }

    fn request_capture(&mut self, effects: &mut ConsensusEffects) {
        if !self.capture_requested && !self.healer.is_fenced() {
            self.capture_requested = true;
            effects.work.push(ApplierEvent::Capture);
        }
    }

    fn captured(&mut self, now: Millis, capture: Capture) {
        if self.healer.is_fenced() {
            // It was made before this member was found to differ.
            return;
        }
        let conf_state = capture.mark().conf_state.clone().unwrap_or_default();
        let last_included = LastIncluded::from(capture.mark());
        self.capture = Some((capture, now));
        self.capture_requested = false;
        self.inputs.push(Input::SnapshotCaptured {
            last_included,
            conf_state,
        });
    }

    fn release_capture(&mut self, now: Millis) {
        let kept_ms = self.capture_kept_ms;
        let idle = |held: &mut (Capture, Millis)| held.1.0 + kept_ms < now.0;
        if let Some((capture, _)) = self.capture.take_if(idle) {
            let last_included = LastIncluded::from(capture.mark());
            self.inputs.push(Input::SnapshotReleased { last_included });
        }
    }

    fn send_snapshot(
        &mut self,
        now: Millis,
        to: MemberId,
        offer: RaftMessage,
        effects: &mut ConsensusEffects,
    ) {
        if self.transfers.must_wait(now, to) {
            self.inputs.push(Input::SnapshotSent { to, ok: false });
            return;
        }
        let wanted = offer.snapshot.as_ref().map(|meta| meta.index);
        let held = self.capture.as_mut();
        match held.filter(|(capture, _)| Some(capture.mark().index) == wanted) {
            Some((capture, since)) => {
                *since = now;
                effects.snapshots.push((to, offer, capture.clone()));
            }
            None => self.inputs.push(Input::SnapshotSent { to, ok: false }),
        }
    }
}

impl Consensus {
    fn note_transfers(&mut self, now: Millis, input: &Input) {
        match input {
            Input::SnapshotSent { to, ok } => self.transfers.ended(now, *to, *ok),
            // A new process, or a new connection.
            Input::PeerUp(to) => self.transfers.ended(now, *to, true),
            _ => {}
        }
    }
}

/// Refuses a forwarded request, with a reason that every release understands.
fn reject(from: MemberId, id: peer::ProposalId, effects: &mut ConsensusEffects) {
    let refused = refused(id, Reason::TooManyRequests);
    let message = Some(peer_message::Message::Refused(refused));
    effects.send.push((from, PeerMessage { message }));
}

#[cfg(test)]
mod tests;
