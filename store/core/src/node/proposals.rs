//! Proposals: from a client's request to an entry of the leader's log.
//!
//! Only a leader appends. A follower forwards the whole request to the leader once, with the term
//! in which that leader leads; a leader of another term refuses it. So a request can only be in an
//! entry of that term. Suppose an entry of a later term is committed and the request was not among
//! the entries before it. Then it is certainly not in the log: it is refused, and may be repeated.
//! A request whose outcome this member can no longer determine is never refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::peer;
use keelson_proto::peer::peer_message::Message as PeerMessageKind;
use keelson_proto::peer::refused::Reason;
use raft::eraftpb;

use super::{Node, Output, Refusal, membership, send};
use crate::{MemberId, ProposalId, proposal};

/// A request to be appended in this step.
struct GatheredProposal {
    id: ProposalId,
    framed: Bytes,
}

#[derive(Default)]
pub(super) struct Proposals {
    gathered: Vec<GatheredProposal>,
    /// This member's requests that may be in a log, by their counter.
    pending: BTreeMap<u64, Pending>,
    /// The bytes of those that were forwarded.
    forwarded_bytes: u64,
}

/// A request that may be in a log.
struct Pending {
    /// The only term that its entry can have.
    term: u64,
    /// Its size in bytes if it was forwarded, else 0: the leader counts its own.
    forwarded_bytes: u64,
}

impl Proposals {
    fn add(&mut self, counter: u64, pending: Pending) {
        self.remove(counter);
        self.forwarded_bytes += pending.forwarded_bytes;
        self.pending.insert(counter, pending);
    }

    /// Removes a request: it was committed or refused, or its client left. Returns whether it was
    /// pending.
    pub(super) fn remove(&mut self, counter: u64) -> bool {
        let removed = self.pending.remove(&counter);
        if let Some(pending) = &removed {
            self.forwarded_bytes -= pending.forwarded_bytes;
        }
        removed.is_some()
    }

    /// An entry of `term` was committed. Removes and returns the requests of earlier terms: no
    /// later entry can contain them.
    pub(super) fn lost_before(&mut self, term: u64) -> Vec<u64> {
        let lost = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.term < term);
        let lost: Vec<u64> = lost.map(|(counter, _)| *counter).collect();
        for counter in &lost {
            self.remove(*counter);
        }
        lost
    }

    /// A snapshot of `term` has replaced entries that this member never received: the outcome of
    /// their requests stays unknown.
    pub(super) fn drop_through(&mut self, term: u64) {
        let _ = self.lost_before(term.saturating_add(1));
    }

    /// Whether a request of that size may be forwarded. One may be at any size.
    fn has_room(&self, bytes: u64, bytes_max: u64) -> bool {
        self.forwarded_bytes == 0 || self.forwarded_bytes + bytes <= bytes_max
    }
}

impl Node {
    pub(super) fn gather(&mut self, id: ProposalId, command: Bytes, output: &mut Output) {
        assert_eq!(id.member, self.config.member, "a request of another member");
        assert_eq!(
            id.incarnation, self.config.incarnation,
            "a request of another incarnation"
        );
        let leader = self.raw.raft.leader_id;
        if self.is_overloaded() {
            output.refused.push((id, Refusal::TooManyRequests));
        } else if self.is_leader() {
            let framed = proposal::encode(id, &command);
            self.proposals
                .gathered
                .push(GatheredProposal { id, framed });
        } else if leader == 0 {
            output.refused.push((id, Refusal::NoLeader));
        } else {
            self.forward(id, command, false, output);
        }
    }

    pub(super) fn forward(
        &mut self,
        id: ProposalId,
        command: Bytes,
        membership: bool,
        output: &mut Output,
    ) {
        let term = self.raw.raft.term;
        let bytes = command.len() as u64;
        if !self
            .proposals
            .has_room(bytes, self.config.uncommitted_bytes_max)
        {
            return output.refused.push((id, Refusal::TooManyRequests));
        }
        let pending = Pending {
            term,
            forwarded_bytes: bytes,
        };
        self.proposals.add(id.counter, pending);
        let id = Some(peer::ProposalId {
            member: id.member.0,
            boot: id.incarnation,
            counter: id.counter,
        });
        let forward = peer::Forward {
            id,
            command,
            membership,
            term,
        };
        let leader = MemberId(self.raw.raft.leader_id);
        send(output, leader, PeerMessageKind::Forward(forward));
    }

    pub(super) fn gather_forwarded(&mut self, forward: peer::Forward, output: &mut Output) {
        let Some(id) = forward.id else { return };
        let id = ProposalId {
            member: MemberId(id.member),
            incarnation: id.boot,
            counter: id.counter,
        };
        if !self.is_leader() || self.raw.raft.term != forward.term {
            self.refuse(id, Refusal::LeaderChanged, output);
        } else if forward.membership {
            self.propose_membership(id, forward.command, output);
        } else if self.is_overloaded() {
            self.refuse(id, Refusal::TooManyRequests, output);
        } else {
            let framed = proposal::encode(id, &forward.command);
            self.proposals
                .gathered
                .push(GatheredProposal { id, framed });
        }
    }

    /// Appends the step's requests as one proposal, as far as there is room.
    pub(super) fn propose_gathered(&mut self, output: &mut Output) {
        let mut gathered = std::mem::take(&mut self.proposals.gathered);
        for request in gathered.drain(self.room_for(&gathered)..) {
            self.refuse(request.id, Refusal::TooManyRequests, output);
        }
        if gathered.is_empty() {
            return;
        }
        let entries: Vec<eraftpb::Entry> = gathered.iter().map(entry_of).collect();
        match self.propose(entries) {
            Ok(()) => {
                for request in &gathered {
                    self.note_pending(request.id);
                }
            }
            Err(refusal) => {
                for request in gathered {
                    self.refuse(request.id, refusal, output);
                }
            }
        }
    }

    /// How many of the requests, in order, fit the limit on uncommitted bytes. raft-rs checks the
    /// sum only, and takes any sum while nothing is uncommitted.
    fn room_for(&self, gathered: &[GatheredProposal]) -> usize {
        let mut bytes = self.raw.raft.uncommitted_size() as u64;
        let fits = |request: &&GatheredProposal| {
            let first = bytes == 0;
            bytes += request.framed.len() as u64;
            first || bytes <= self.config.uncommitted_bytes_max
        };
        gathered.iter().take_while(fits).count()
    }

    pub(super) fn propose(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), Refusal> {
        if !self.is_leader() || self.raw.raft.lead_transferee.is_some() {
            return Err(Refusal::LeaderChanged);
        }
        let mut message = eraftpb::Message::default();
        message.msg_type = eraftpb::MessageType::MsgPropose;
        message.from = self.config.member.0;
        message.set_entries(entries.into());
        // A leader that is not transferring its leadership drops proposals only for their size.
        self.raw
            .raft
            .step(message)
            .map_err(|_| Refusal::TooManyRequests)
    }

    pub(super) fn note_pending(&mut self, id: ProposalId) {
        if id.member == self.config.member && id.incarnation == self.config.incarnation {
            let pending = Pending {
                term: self.raw.raft.term,
                forwarded_bytes: 0,
            };
            self.proposals.add(id.counter, pending);
        }
    }

    pub(super) fn refuse(&mut self, id: ProposalId, refusal: Refusal, output: &mut Output) {
        if id.member == self.config.member {
            output.refused.push((id, refusal));
            return;
        }
        let reason = reason_of(refusal);
        let refused = peer::Refused {
            id: Some(peer::ProposalId {
                member: id.member.0,
                boot: id.incarnation,
                counter: id.counter,
            }),
            reason: reason.into(),
        };
        send(output, id.member, PeerMessageKind::Refused(refused));
    }

    /// The leader refused a request that this member had forwarded.
    pub(super) fn take_refusal(&mut self, refused: peer::Refused, output: &mut Output) {
        let reason = refused.reason();
        let Some(id) = refused.id else { return };
        let mine = id.member == self.config.member.0 && id.boot == self.config.incarnation;
        if !mine || !self.proposals.remove(id.counter) {
            return;
        }
        let refusal = refusal_of(reason);
        let id = ProposalId {
            member: MemberId(id.member),
            incarnation: id.boot,
            counter: id.counter,
        };
        output.refused.push((id, refusal));
    }

    /// Accounts for a committed entry, and refuses the requests that it proves lost.
    pub(super) fn settle_pending(&mut self, entry: &eraftpb::Entry, output: &mut Output) {
        let framed = match entry.entry_type {
            eraftpb::EntryType::EntryNormal => &entry.data,
            _ => &entry.context,
        };
        if let Some((id, _)) = membership::split(framed)
            && id.member == self.config.member
            && id.incarnation == self.config.incarnation
        {
            self.proposals.remove(id.counter);
        }
        if self.delivered_term < entry.term {
            self.delivered_term = entry.term;
            for counter in self.proposals.lost_before(entry.term) {
                let id = ProposalId {
                    member: self.config.member,
                    incarnation: self.config.incarnation,
                    counter,
                };
                output.refused.push((id, Refusal::LeaderChanged));
            }
        }
    }
}

fn entry_of(request: &GatheredProposal) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry::default();
    entry.data = request.framed.clone();
    entry
}

fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::NoLeader | Refusal::LeaderChanged => Reason::NotLeader,
        Refusal::TooManyRequests => Reason::TooManyRequests,
        Refusal::MembershipChangePending => Reason::MembershipChangePending,
        Refusal::MembershipConflict => Reason::MembershipConflict,
        Refusal::UnhealthyCluster => Reason::UnhealthyCluster,
        Refusal::LearnerNotReady => Reason::LearnerNotReady,
        Refusal::LastVoter => Reason::LastVoter,
        Refusal::TooManyLearners => Reason::TooManyLearners,
    }
}

fn refusal_of(reason: Reason) -> Refusal {
    match reason {
        Reason::NotLeader => Refusal::LeaderChanged,
        Reason::TooManyRequests => Refusal::TooManyRequests,
        Reason::MembershipChangePending => Refusal::MembershipChangePending,
        Reason::MembershipConflict => Refusal::MembershipConflict,
        Reason::UnhealthyCluster => Refusal::UnhealthyCluster,
        Reason::LearnerNotReady => Refusal::LearnerNotReady,
        Reason::LastVoter => Refusal::LastVoter,
        Reason::TooManyLearners => Refusal::TooManyLearners,
    }
}
