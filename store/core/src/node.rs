//! The consensus step: `Node::step(Input) -> Output`, around raft-rs.
//!
//! A node decides and performs no IO. It has no clock: time is an argument. It has no disk: it
//! returns what must become durable, and takes a report once it is. It has no randomness of its
//! own: raft-rs's is overridden. It does not interpret commands: `Committed` entries go to the
//! state machine. Start at [`Node::step`]; its types are `Input` and `Output`.

mod config;
mod convert;
mod failover;
mod health;
mod io;
mod load;
mod log;
mod lost;
mod membership;
mod plausible;
mod proposals;
mod reads;
mod ready;
#[cfg(test)]
mod tests;
mod timing;

use keelson_proto::peer;
use keelson_proto::peer::peer_message::Message as PeerMessageKind;
use raft::{RawNode, StateRole};

pub use config::{NodeConfig, NodeError, Restored};
pub use convert::{APPEND, APPEND_RESPONSE, SNAPSHOT};
pub use io::{Append, Input, NodeStatus, Output, ReadReady, Refusal, Role, SoftState};

use failover::Failover;
use health::Health;
use load::Unpersisted;
use log::MemoryLog;
pub use lost::LogLost;
use proposals::Proposals;
use reads::{ReadQueue, Reader};

use crate::{Index, LastIncluded, MemberId, Millis, Roster, Term};

/// One member's Raft node.
pub struct Node {
    config: NodeConfig,
    raw: RawNode<MemoryLog>,
    now: Millis,
    last_tick: Millis,
    proposals: Proposals,
    reads: ReadQueue,
    failover: Failover,
    /// The index of the last committed entry that was delivered to the state machine.
    delivered: u64,
    /// The term of that entry.
    delivered_term: u64,
    /// The index up to which the engine has applied entries durably.
    durable: u64,
    /// The number of the last append that is not durable yet, 0 if all are.
    unpersisted: u64,
    /// The bytes of entries that wait for the log's disk.
    unpersisted_bytes: Unpersisted,
    /// The state machine has more unflushed bytes than it may.
    backlogged: bool,
    /// The limit on appends in flight to one follower, as last set in raft-rs.
    in_flight_max: usize,
    /// The number of the last append that changed term or vote and is not durable yet, 0 if all
    /// are.
    unpersisted_vote: u64,
    /// The term and vote that were last sent to the log.
    persisted_vote: (Term, MemberId),
    /// The term of the durable hard state.
    durable_term: Term,
    /// A commit index that goes to the log with the next append that has entries: alone it costs no
    /// write.
    lazy_commit: bool,
    soft_state: SoftState,
    removed: bool,
    health: Health,
    /// The members as of the last delivered entry.
    roster: Roster,
    /// The members in the snapshot that was received last.
    offered: Option<(LastIncluded, Roster)>,
    /// Consecutive heartbeats that commit entries which this log does not have.
    heartbeats_beyond_log: u32,
    lost: Option<LogLost>,
}

impl Node {
    /// A node restored from log and engine. If a position is returned, the log restarts there: it
    /// must be written to the log durably before the first step.
    ///
    /// # Errors
    /// Log and engine do not fit together.
    pub fn new(
        config: NodeConfig,
        restored: Restored,
    ) -> Result<(Node, Option<LastIncluded>), NodeError> {
        let (restored, mark) = restored.reconcile()?;
        let applied = restored.applied.clone();
        let conf_state = applied.conf_state.clone().unwrap_or_default();
        let log = MemoryLog::new(
            restored.log_start,
            restored.entries,
            restored.hard_state,
            conf_state,
        );
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&timing::raft_config(&config, applied.index), log, &logger)
            .map_err(|error| NodeError::Raft(error.to_string()))?;
        let soft_state = SoftState {
            leader: MemberId::NONE,
            role: Role::Follower,
            term: Term(raw.raft.term),
        };
        let mut node = Node {
            config,
            raw,
            now: Millis(0),
            last_tick: Millis(0),
            proposals: Proposals::default(),
            reads: ReadQueue::default(),
            failover: Failover::default(),
            delivered: applied.index,
            delivered_term: applied.term,
            durable: applied.index,
            unpersisted: 0,
            unpersisted_bytes: Unpersisted::default(),
            backlogged: false,
            in_flight_max: load::IN_FLIGHT_MAX,
            unpersisted_vote: 0,
            persisted_vote: (restored.hard_state.term, restored.hard_state.vote),
            durable_term: restored.hard_state.term,
            lazy_commit: false,
            soft_state,
            removed: false,
            health: Health::default(),
            roster: restored.roster,
            offered: None,
            heartbeats_beyond_log: 0,
            lost: None,
        };
        node.settle_timeout();
        Ok((node, mark))
    }

    /// One step: processes inputs in order at time `now`, and returns what must be done.
    pub fn step(&mut self, now: Millis, inputs: impl IntoIterator<Item = Input>) -> Output {
        let mut output = Output::default();
        self.now = self.now.max(now);
        for input in inputs {
            self.take(input, &mut output);
        }
        self.propose_gathered(&mut output);
        self.advance_time();
        self.update_soft_state(&mut output);
        self.run_reads(&mut output);
        let mut again = self.process_ready(&mut output);
        again |= self.lead_as_only_voter();
        // An applied membership change can end this member's leadership.
        again |= self.update_soft_state(&mut output);
        self.bound_in_flight();
        output.snapshot_wanted = self.raw.store().take_snapshot_wanted();
        output.removed = self.removed;
        output.lost = self.lost.take();
        output.wake_at = if again { self.now } else { self.wake_at() };
        output
    }

    /// The node's log positions and soft state.
    pub fn status(&self) -> NodeStatus {
        let log = self.raw.store();
        NodeStatus {
            soft_state: self.soft_state,
            shown_term: self.durable_term.max(Term(self.delivered_term)),
            last: Index(self.raw.raft.raft_log.last_index()),
            committed: Index(self.raw.raft.raft_log.committed),
            delivered: Index(self.delivered),
            first: Index(log.first()),
            log_bytes: log.size_bytes(),
        }
    }

    /// This member, and its incarnation.
    pub fn identity(&self) -> (MemberId, u64) {
        (self.config.member, self.config.incarnation)
    }

    /// The voters as of the last committed entry.
    pub fn voters(&self) -> Vec<MemberId> {
        let conf = self.raw.raft.prs().conf().to_conf_state();
        conf.voters.into_iter().map(MemberId).collect()
    }

    fn take(&mut self, input: Input, output: &mut Output) {
        match input {
            Input::Raft(message) => self.take_raft(message, false),
            Input::SnapshotReceived { offer, roster } => self.take_snapshot(offer, *roster),
            Input::Propose { id, command } => self.gather(id, command, output),
            Input::ProposalCancelled { id } => drop(self.proposals.remove(id.counter)),
            Input::ProposeMembership { id, change } => self.gather_membership(id, change, output),
            Input::Forwarded(forward) => self.gather_forwarded(forward, output),
            Input::Refused(refused) => self.take_refusal(refused, output),
            Input::Read { context } => self.reads.add(Reader::Local { context }),
            Input::ReadCancelled { context } => self.reads.cancel(context),
            Input::ReadIndexRequested { from, request } => self.reads.add(Reader::Peer {
                member: from,
                context: request.context,
                incarnation: request.boot,
            }),
            Input::ReadIndexAnswered(answer) => self.take_read_index(answer, output),
            Input::Persisted { number } => self.take_persisted(number),
            Input::Durable { index } => self.take_durable(index, output),
            Input::Backlogged(backlogged) => self.backlogged = backlogged,
            Input::PeerDown(member) => self.take_peer_down(member),
            Input::PeerUp(member) => self.failover.mark_up(member),
            Input::Unreachable(member) => {
                self.raw.report_unreachable(member.0);
                // Its next message makes it healthy again.
                self.health.remove(member);
            }
            Input::SnapshotCaptured {
                last_included: LastIncluded { index, term },
                conf_state,
            } => {
                let snapshot = convert::snapshot_of(index.0, term.0, Some(conf_state));
                self.raw.mut_store().offer(snapshot);
            }
            Input::SnapshotReleased { last_included } => {
                self.raw.mut_store().withdraw(last_included);
            }
            Input::SnapshotSent { to, ok } => {
                let status = match ok {
                    true => raft::SnapshotStatus::Finish,
                    false => raft::SnapshotStatus::Failure,
                };
                self.raw.report_snapshot(to.0, status);
            }
            Input::TransferLeader(to) => self.transfer_leader(to),
        }
        self.settle_timeout();
    }

    fn take_snapshot(&mut self, offer: peer::RaftMessage, roster: Roster) {
        if let Some(meta) = &offer.snapshot {
            let last_included = LastIncluded {
                index: Index(meta.index),
                term: Term(meta.term),
            };
            self.offered = Some((last_included, roster));
        }
        self.take_raft(offer, true);
    }

    fn take_raft(&mut self, message: peer::RaftMessage, with_state: bool) {
        let from = MemberId(message.from);
        let Some(message) = convert::message_from_peer(message) else {
            return;
        };
        let is_snapshot = message.msg_type == raft::eraftpb::MessageType::MsgSnapshot;
        if message.to != self.config.member.0 || is_snapshot != with_state {
            return;
        }
        if !self.is_plausible(&message) {
            return;
        }
        self.failover.mark_up(from);
        if self.raw.raft.prs().get(from.0).is_some() {
            self.health.note_message(from, self.now);
        }
        let is_append = message.msg_type == raft::eraftpb::MessageType::MsgAppend;
        if is_append && !message.entries.is_empty() && self.is_overloaded() {
            // Dropped as if the network had lost it: the leader sends it again.
            return;
        }
        if self.commits_lost_entries(&message) {
            return;
        }
        self.make_room_in_flight(&message);
        // The only errors are for messages of removed members and for late ones.
        let _ = self.raw.step(message);
    }

    fn take_persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
        self.unpersisted_bytes.persisted(number);
        if self.unpersisted <= number {
            self.unpersisted = 0;
        }
        if self.unpersisted_vote <= number {
            self.unpersisted_vote = 0;
            self.durable_term = self.persisted_vote.0;
        }
    }

    fn run_reads(&mut self, output: &mut Output) {
        let patience_ms = self.config.election_ms / 2;
        if self.reads.is_late(self.now, patience_ms) {
            let peers = self.reads.abandon();
            self.reject(peers, output);
        }
        if !self.is_leader() {
            let peers = self.reads.take_waiting_peers();
            self.reject(peers, output);
        }
        if self.is_leader() && self.raw.raft.commit_to_current_term() {
            if let Some(attempt) = self.reads.begin(self.now) {
                self.raw.read_index(self.read_context(attempt));
            }
        } else if !self.is_leader() && self.raw.raft.leader_id != 0 {
            let leader = MemberId(self.raw.raft.leader_id);
            if let Some(context) = self.reads.begin(self.now) {
                let request = peer::ReadIndexRequest {
                    context,
                    boot: self.config.incarnation,
                };
                send(output, leader, PeerMessageKind::ReadIndexRequest(request));
            }
        }
    }

    /// The context of a ReadIndex round. The incarnation keeps it distinct from the rounds of
    /// earlier ones.
    fn read_context(&self, attempt: u64) -> Vec<u8> {
        [self.config.incarnation.to_be_bytes(), attempt.to_be_bytes()].concat()
    }

    fn take_read_index(&mut self, answer: peer::ReadIndexResponse, output: &mut Output) {
        if answer.boot != self.config.incarnation || self.is_leader() {
            return;
        }
        if answer.index == 0 {
            self.reads.abandon();
            self.reads
                .pause(Millis(self.now.0 + self.config.heartbeat_ms / 2));
        } else {
            let readers = self.reads.end(answer.context);
            self.answer_readers(readers, Index(answer.index), output);
        }
    }

    fn answer_readers(&self, readers: Vec<Reader>, index: Index, output: &mut Output) {
        for reader in readers {
            match reader {
                Reader::Local { context } => output.reads.push(ReadReady { context, index }),
                Reader::Peer {
                    member,
                    context,
                    incarnation,
                } => {
                    output
                        .send
                        .push((member, reads::answer(context, incarnation, index)));
                }
            }
        }
    }

    fn reject(&self, peers: Vec<Reader>, output: &mut Output) {
        for reader in peers {
            if let Reader::Peer {
                member,
                context,
                incarnation,
            } = reader
            {
                output
                    .send
                    .push((member, reads::answer(context, incarnation, Index(0))));
            }
        }
    }

    fn update_soft_state(&mut self, output: &mut Output) -> bool {
        let raft = &self.raw.raft;
        let soft_state = SoftState {
            leader: MemberId(raft.leader_id),
            role: match raft.state {
                StateRole::Leader => Role::Leader,
                StateRole::Follower => Role::Follower,
                StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            },
            term: Term(raft.term),
        };
        if soft_state == self.soft_state {
            return false;
        }
        if soft_state.leader != self.soft_state.leader || soft_state.term != self.soft_state.term {
            // Rounds of the former leader do not end; the reads go to the next one.
            let peers = self.reads.abandon();
            self.reject(peers, output);
            self.reads.pause(Millis(0));
        }
        if soft_state.role == Role::Leader {
            // A follower that answered the former leader may have failed since; live ones answer
            // soon.
            self.health = Health::default();
        }
        if soft_state.leader != MemberId::NONE && !self.failover.is_down(soft_state.leader) {
            self.failover.clear_plan();
        }
        self.soft_state = soft_state;
        output.soft_state = Some(soft_state);
        true
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }
}

fn send(output: &mut Output, to: MemberId, message: PeerMessageKind) {
    output.send.push((
        to,
        peer::PeerMessage {
            message: Some(message),
        },
    ));
}
