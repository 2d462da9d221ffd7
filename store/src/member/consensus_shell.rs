//! The IO of consensus: carries out the effects that the core's consensus returns: messages, log
//! writes, snapshots, refusals.
//!
//! The decisions are made in `keelson_core::member::Consensus`, which the simulator runs as well.
//! A round does not block: the disk and the network have threads and tasks of their own.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::Sender;
use keelson_core::member::{
    ApplierEvent, Consensus, ConsensusEffects, ConsensusEvent, LogWork, forward_failed,
    forwarded_id,
};
use keelson_core::node::{Input, SoftState};
use keelson_core::state::Capture;
use keelson_core::{LastIncluded, MemberId, Millis};
use keelson_port::LogThrottle;
use keelson_proto::peer::{PeerMessage, RaftMessage, SnapshotChunk, snapshot_chunk};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::applier_shell::ApplierShell;
use super::fatal::Fatal;
use super::raft_lines;
use super::staging::Staged;
use super::waiters::{Outcome, Waiters};
use super::worker::{Handoff, MemberExecutor, WorkerEvent};
use crate::lease::LessorInbox;
use crate::peer::{Outbox, SendError, send_snapshot};
use crate::reads::ReadBatches;
use crate::shared::Shared;

/// The size of a snapshot chunk, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Consensus, and the targets of its effects.
pub(crate) struct ConsensusShell {
    pub(crate) consensus: Consensus,
    pub(crate) executor: Arc<MemberExecutor>,
    pub(crate) log: Sender<LogWork>,
    pub(crate) outbox: Outbox,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) reads: Arc<ReadBatches>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lessor: Arc<LessorInbox>,
    pub(crate) fatal: Fatal,
    /// Kept between rounds, so that its buffer is reused.
    pub(crate) events: Vec<ConsensusEvent>,
    pub(crate) staged: Option<(Box<Staged>, oneshot::Sender<bool>)>,
    /// Raft retries a snapshot at once; this limits the log to one warning a minute.
    pub(crate) snapshot_trouble: Arc<Mutex<LogThrottle>>,
}

impl ConsensusShell {
    /// Runs one round. Returns its load, and when the next round is due, in milliseconds.
    pub(crate) fn round(
        &mut self,
        now: Millis,
        handoff: &mut Handoff,
        applier: &mut ApplierShell,
    ) -> (usize, u64) {
        let effects = self.consensus.handle(now, self.events.drain(..));
        let (load, due) = (effects.load, effects.wake_at.0);
        self.carry_out(effects, now, handoff, applier);
        (load, due)
    }

    /// Queues an event for the next round, or for the applier.
    pub(crate) fn take(&mut self, event: WorkerEvent, to_applier: &mut Vec<ApplierEvent>) {
        match event {
            WorkerEvent::Core(ConsensusEvent::Input(Input::Read { context })) => {
                if self.reads.close(context) {
                    let read = ConsensusEvent::Input(Input::Read { context });
                    self.events.push(read);
                }
            }
            WorkerEvent::Core(event) => {
                if let ConsensusEvent::Input(Input::Unreachable(peer)) = &event {
                    self.shared.traffic.lost(*peer);
                }
                self.events.push(event);
            }
            WorkerEvent::Peer(from, messages, bytes) => {
                self.shared.note_taken(bytes);
                self.shared.traffic.received(from, &messages, bytes);
                self.events.push(ConsensusEvent::Peer(from, messages));
            }
            WorkerEvent::SnapshotStaged(offer, staged, answer) => {
                let roster = Box::new(staged.roster());
                self.staged = Some((staged, answer));
                self.events
                    .push(ConsensusEvent::SnapshotStaged { offer, roster });
            }
            WorkerEvent::MembersChanged => self.outbox.update(&self.shared.peers()),
            WorkerEvent::Flushed(engine, flush) => {
                to_applier.push(ApplierEvent::Flushed { engine, flush })
            }
            // The worker has passed it to the applier.
            WorkerEvent::Capture(_) => {}
        }
    }

    /// Carries out the effects in the order of the fields of `Effects`.
    fn carry_out(
        &mut self,
        effects: ConsensusEffects,
        now: Millis,
        handoff: &mut Handoff,
        applier: &mut ApplierShell,
    ) {
        // First: answers from an installed snapshot need its term.
        self.shared.note_node(self.consensus.status());
        self.shared.traffic.sent(effects.send.iter());
        for (to, message) in effects.send {
            self.send(to, message, handoff);
        }
        self.install(effects.install, now, handoff, applier);
        if self.fatal.is_raised() {
            // The log must not begin anew at the mark of a state that is not on disk.
            return;
        }
        if let Some(append) = effects.append {
            self.shared.traffic.sent(append.send_after.iter());
            let _ = self.log.send(LogWork::Append(append));
        }
        if let Some(mark) = effects.truncate {
            let _ = self.log.send(LogWork::Truncate(mark));
        }
        handoff.work.extend(effects.work);
        for (id, refusal) in effects.refused {
            self.waiters.settle(id, Outcome::Refused(refusal));
        }
        for (to, offer, capture) in effects.snapshots {
            self.send_snapshot(to, offer, capture);
        }
        if let Some(soft_state) = effects.soft_state {
            self.announce(soft_state);
        }
        for (from, message) in effects.leases {
            self.lessor.receive(from, message);
        }
        if effects.removed {
            self.shared.note_removed();
        }
        if let Some(lost) = effects.lost {
            self.fatal.raise("following the leader", &lost);
        }
    }

    /// Sends a message. A request that cannot be sent to the leader is certainly not in the log,
    /// so it is refused at once and does not wait for a timeout.
    fn send(&self, to: MemberId, message: PeerMessage, to_self: &mut Handoff) {
        let forwarded = forwarded_id(&message);
        let Err(why) = self.outbox.send(to, message) else {
            return;
        };
        if let Some(request) = forwarded {
            let is_linked = !matches!(why, SendError::NoLink);
            let failed = WorkerEvent::Core(forward_failed(request, is_linked));
            to_self.events.push_back(failed);
        }
    }

    /// Replaces the state machine with the staged snapshot, unless the snapshot is stale.
    fn install(
        &mut self,
        mark: Option<LastIncluded>,
        now: Millis,
        handoff: &mut Handoff,
        applier: &mut ApplierShell,
    ) {
        let Some((staged, answer)) = self.staged.take() else {
            if let Some(mark) = mark {
                let what = format!("no snapshot of index {} is staged", mark.index);
                self.fatal.raise("installing a snapshot", &what);
            }
            return;
        };
        let taken = mark == Some(staged.mark());
        if taken {
            applier.work(handoff, now);
            applier.install(*staged, handoff);
        }
        if !self.fatal.is_raised() {
            let _ = answer.send(taken);
        }
    }

    fn announce(&self, soft_state: SoftState) {
        let before = self.shared.soft_state();
        for line in raft_lines::lines(self.shared.member, before, soft_state) {
            tracing::info!("{line}");
        }
        self.shared.note_soft_state(soft_state);
    }

    fn send_snapshot(&self, to: MemberId, offer: RaftMessage, mut capture: Capture) {
        let (outbox, events) = (self.outbox.clone(), Arc::clone(&self.executor));
        let fatal = self.fatal.clone();
        let trouble = Arc::clone(&self.snapshot_trouble);
        let in_use = self.shared.jobs.token();
        let transfer = async move {
            let began = Instant::now();
            let read = move |send: &mut dyn FnMut(snapshot_chunk::Part) -> bool| {
                // On the blocking pool, where an abort does not end it.
                let _in_use = in_use;
                loop {
                    match capture.next_chunk(CHUNK_BYTES) {
                        Ok(Some(SnapshotChunk { part: Some(part) })) => {
                            if !send(part) {
                                return;
                            }
                        }
                        Ok(_) => return,
                        Err(error) => return fatal.raise("reading a snapshot", &error),
                    }
                }
            };
            let counted = outbox.begin_snapshot(to);
            let sent = send_snapshot(&outbox, to, offer, read).await;
            if let Some(counted) = counted
                && sent.is_ok()
            {
                counted.succeed();
            }
            match &sent {
                Ok(()) => tracing::info!(%to, took = ?began.elapsed(), "sent a snapshot"),
                Err(error) if trouble.lock().failing().is_some() => {
                    tracing::warn!(%to, why = error.message(), "sending a snapshot failed");
                }
                Err(error) => {
                    tracing::debug!(%to, why = error.message(), "sending a snapshot failed");
                }
            }
            let ok = sent.is_ok();
            let _ = events.send(Input::SnapshotSent { to, ok }.into());
        };
        self.outbox.spawn(transfer);
    }
}

#[cfg(test)]
mod tests;
