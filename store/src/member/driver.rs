//! The driver: the only one that calls `Node::step`.
//!
//! One turn, told in the order in which it happens, is [`Stage`]. It waits for nothing: the disk and
//! the network have threads and tasks of their own. Whose thread runs it is `turns.rs`'s affair.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use keelson_core::member::Work;
use keelson_core::node::{Input, Node, Output, Refusal, Standing};
use keelson_core::state::Capture;
use keelson_core::{MemberId, Millis, ProposalId};
use keelson_port::Episode;
use keelson_proto::peer::refused::Reason;
use keelson_proto::peer::{PeerMessage, RaftMessage, SnapshotChunk, peer_message, snapshot_chunk};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::applier;
use super::fatal::Fatal;
use super::log_writer::LogJob;
use super::messages::{Unfit, handed, input_of, refused};
use super::raft_lines;
use super::staging::Staged;
use super::turns::Turns;
use super::waiters::{Outcome, Waiters};
use crate::peer::{Outbox, Unsent, send_snapshot};
use crate::reads::ReadBatches;
use crate::shared::Shared;

/// Something for the driver.
pub(crate) enum Event {
    /// For the node, as it is.
    Input(Input),
    /// From a peer; what the messages weigh, in bytes.
    Peer(MemberId, Vec<PeerMessage>, usize),
    /// A peer handed over these requests, and there was no room for them.
    Crowded(MemberId, Vec<keelson_proto::peer::ProposalId>),
    /// The state machine was captured for a follower.
    Captured(Capture),
    /// A snapshot has arrived whole. Answers when it is installed, or found stale.
    SnapshotStaged(RaftMessage, Box<Staged>, oneshot::Sender<bool>),
    /// The links must follow the members.
    MembersChanged,
}

/// Events that one turn takes: more would only delay the first one's answer.
const TURN_MAX: usize = 1024;

/// Rows of a snapshot that travel together, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A captured state that nobody asks for is let go after this long: it holds compaction back.
const CAPTURE_KEPT: Duration = Duration::from_secs(10);

/// One turn of the driver, in the order it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Take whatever has come - from peers, clients, a finished sync, the clock - and...
    Gather,
    /// ...hand it all to the node, which decides and does nothing.
    Step,
    /// Send what promises nothing that is not durable.
    Send,
    /// Install a snapshot that the node took: the log must not hear of it first.
    Install,
    /// Give the log thread what must be durable; it sends what waits for that.
    Persist,
    /// Give the apply thread what is committed.
    Apply,
    /// Let linearizable reads wait for their index, and tell clients whose requests are surely not
    /// in the log.
    Reply,
    /// Tell the rest of the member who leads now, and begin snapshots.
    Report,
}

pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) turns: Arc<Turns>,
    pub(crate) log: Sender<LogJob>,
    pub(crate) outbox: Outbox,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) reads: Arc<ReadBatches>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) fatal: Fatal,
    pub(crate) inputs: Vec<Input>,
    pub(crate) staged: Option<(Box<Staged>, oneshot::Sender<bool>)>,
    pub(crate) capture: Option<(Capture, Instant)>,
    pub(crate) capture_asked: bool,
    /// Raft tries again at once: not each failure is for the log.
    pub(crate) snapshot_trouble: Arc<Mutex<Episode>>,
}

impl Driver {
    /// One turn. Returns how much it had to do - inputs, entries to append, entries to apply - and when
    /// the next is due, in milliseconds of `turns`.
    pub(crate) fn turn(&mut self, turns: &Turns) -> (usize, u64) {
        if self.fatal.is_raised() {
            return self.end(turns);
        }
        let mut output = Output::default();
        let mut work = 0;
        let mut stage = Some(Stage::Gather);
        while let Some(now) = stage {
            stage = match now {
                Stage::Gather => {
                    self.gather(turns);
                    work = self.inputs.len();
                    Some(Stage::Step)
                }
                Stage::Step => {
                    output = self
                        .node
                        .step(Millis(turns.now_ms()), self.inputs.drain(..));
                    let append = output.append.as_ref();
                    work += append.map_or(0, |append| append.entries.len()) + output.apply.len();
                    Some(Stage::Send)
                }
                Stage::Send => {
                    self.shared.traffic.sent(output.send.iter());
                    for (to, message) in output.send.drain(..) {
                        self.send(to, message, turns);
                    }
                    Some(Stage::Install)
                }
                Stage::Install => {
                    self.install(&output, turns);
                    if self.fatal.is_raised() {
                        // The log must not begin anew at a state that is not there.
                        return self.end(turns);
                    }
                    Some(Stage::Persist)
                }
                Stage::Persist => {
                    self.persist(&mut output);
                    Some(Stage::Apply)
                }
                Stage::Apply => {
                    if !output.apply.is_empty() {
                        let entries = std::mem::take(&mut output.apply);
                        turns.leave_job(Work::Committed(entries));
                    }
                    Some(Stage::Reply)
                }
                Stage::Reply => {
                    for ready in output.reads.drain(..) {
                        turns.leave_job(Work::Read(ready));
                    }
                    self.refuse(&output.refused);
                    Some(Stage::Report)
                }
                Stage::Report => {
                    self.report(&mut output, turns);
                    None
                }
            };
        }
        (work, output.wake_at.0)
    }

    /// The member cannot go on: what waits for an event's answer ends as the event is dropped.
    fn end(&mut self, turns: &Turns) -> (usize, u64) {
        self.inputs.clear();
        while turns.next_event().is_some() {}
        (0, u64::MAX)
    }

    fn gather(&mut self, turns: &Turns) {
        for _ in 0..TURN_MAX {
            match turns.next_event() {
                Some(event) => self.take(event, turns),
                None => break,
            }
        }
    }

    /// Sends a message. A request that cannot be handed to the leader is surely not in the log: it is
    /// refused at once, and not when its client gives up.
    fn send(&self, to: MemberId, message: PeerMessage, turns: &Turns) {
        let handed = handed(&message);
        let Err(unsent) = self.outbox.send(to, message) else {
            return;
        };
        if let Some(id) = handed {
            let reason = match unsent {
                Unsent::NoLink => Reason::NotLeader,
                Unsent::Full => Reason::TooManyRequests,
            };
            let refused = Input::Refused(refused(id, reason));
            let _ = turns.leave(Event::Input(refused));
        }
    }

    fn take(&mut self, event: Event, turns: &Turns) {
        match event {
            Event::Input(Input::Read { context }) => {
                if self.reads.close(context) {
                    self.inputs.push(Input::Read { context });
                }
            }
            Event::Input(Input::ReadGivenUp { context }) => {
                self.inputs.push(Input::ReadGivenUp { context });
                turns.leave_job(Work::ReadGivenUp { context });
            }
            // A client that left before its turn came has no use for it.
            Event::Input(Input::Propose { id, .. } | Input::ProposeMembership { id, .. })
                if !self.waiters.is_waiting(id) => {}
            Event::Input(input) => {
                if let Input::Unreachable(peer) = input {
                    self.shared.traffic.lost(peer);
                }
                self.inputs.push(input);
            }
            Event::Peer(from, messages, bytes) => {
                self.shared.note_taken(bytes);
                self.shared.traffic.received(from, &messages);
                for message in messages {
                    self.take_message(from, message);
                }
            }
            Event::Crowded(from, handed) => {
                for id in handed {
                    self.turn_away(from, id);
                }
            }
            Event::Captured(capture) => self.captured(capture),
            Event::SnapshotStaged(offer, staged, answer) => {
                let roster = Box::new(staged.roster());
                self.staged = Some((staged, answer));
                self.inputs.push(Input::SnapshotReceived { offer, roster });
            }
            Event::MembersChanged => self.outbox.update(&self.shared.peers()),
        }
    }

    fn take_message(&mut self, from: MemberId, message: PeerMessage) {
        match input_of(from, message) {
            Ok(input) => self.inputs.extend(input),
            Err(Unfit(id)) => self.turn_away(from, id),
        }
    }

    /// Refuses a request of a peer's client, for a reason that every release knows.
    fn turn_away(&self, from: MemberId, id: keelson_proto::peer::ProposalId) {
        let refused = refused(id, Reason::TooManyRequests);
        let message = Some(peer_message::Message::Refused(refused));
        let _ = self.outbox.send(from, PeerMessage { message });
    }

    /// If the node took the snapshot that has arrived, the state machine goes on from it before the
    /// log begins anew there. A crash in between is repaired at the next start.
    fn install(&mut self, output: &Output, turns: &Turns) {
        let Some((staged, answer)) = self.staged.take() else {
            return;
        };
        let append = output.append.as_ref();
        let mark = append.and_then(|append| append.snapshot.as_ref());
        let taken = mark.is_some_and(|(mark, _)| *mark == staged.mark());
        if taken && let Some(applier) = turns.applier_for_install().as_mut() {
            applier.install(*staged);
        }
        if !self.fatal.is_raised() {
            let _ = answer.send(taken);
        }
    }

    fn persist(&mut self, output: &mut Output) {
        if let Some(append) = output.append.take() {
            self.shared.traffic.sent(append.send_after.iter());
            let _ = self.log.send(LogJob::Append(append));
        }
        if let Some(mark) = output.truncate.take() {
            let _ = self.log.send(LogJob::Truncate(mark));
        }
    }

    fn refuse(&self, refused: &[(ProposalId, Refusal)]) {
        for (id, refusal) in refused {
            self.waiters.settle(*id, Outcome::Refused(*refusal));
        }
    }

    fn report(&mut self, output: &mut Output, turns: &Turns) {
        self.shared.note_node(self.node.status());
        if let Some(standing) = output.standing {
            self.announce(standing);
        }
        if output.snapshot_wanted && !self.capture_asked {
            self.capture_asked = true;
            turns.leave_job(Work::Capture);
        }
        for (to, offer) in output.snapshots.drain(..) {
            self.send_snapshot(to, offer, turns);
        }
        let kept_too_long = |(_, since): &(_, Instant)| CAPTURE_KEPT < since.elapsed();
        if let Some((capture, _)) = self.capture.take_if(|held| kept_too_long(held)) {
            let (mark, _) = applier::mark_of(&capture);
            self.inputs.push(Input::SnapshotReleased { mark });
        }
        if let Some(lost) = output.lost {
            self.fatal.raise("following the leader", &lost);
        }
        if output.removed {
            self.shared.note_removed();
        }
    }

    fn announce(&self, standing: Standing) {
        let before = self.shared.standing();
        for line in raft_lines::lines(self.shared.member, before, standing) {
            tracing::info!("{line}");
        }
        self.shared.note_standing(standing);
    }

    fn captured(&mut self, capture: Capture) {
        let (mark, conf_state) = applier::mark_of(&capture);
        self.capture = Some((capture, Instant::now()));
        self.capture_asked = false;
        self.inputs
            .push(Input::SnapshotCaptured { mark, conf_state });
    }

    fn send_snapshot(&mut self, to: MemberId, offer: RaftMessage, turns: &Turns) {
        let wanted = offer.snapshot.as_ref().map(|meta| meta.index);
        let fits = |(capture, _): &&mut (Capture, Instant)| Some(capture.mark().index) == wanted;
        let Some((capture, since)) = self.capture.as_mut().filter(fits) else {
            let _ = turns.leave(Event::Input(Input::SnapshotSent { to, ok: false }));
            return;
        };
        *since = Instant::now();
        let mut capture = capture.clone();
        let (outbox, events) = (self.outbox.clone(), Arc::clone(&self.turns));
        let fatal = self.fatal.clone();
        let trouble = Arc::clone(&self.snapshot_trouble);
        let transfer = async move {
            let began = Instant::now();
            let read = move |send: &mut dyn FnMut(snapshot_chunk::Part) -> bool| {
                loop {
                    match capture.next_chunk(PIECE_BYTES) {
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
            let sent = send_snapshot(&outbox, to, offer, read).await;
            match &sent {
                Ok(()) => tracing::info!(%to, took = ?began.elapsed(), "sent a snapshot"),
                Err(error) if trouble.lock().goes_on().is_some() => {
                    tracing::warn!(%to, why = error.message(), "sending a snapshot failed");
                }
                Err(error) => {
                    tracing::debug!(%to, why = error.message(), "sending a snapshot failed");
                }
            }
            let _ = events.send(Event::Input(Input::SnapshotSent {
                to,
                ok: sent.is_ok(),
            }));
        };
        self.outbox.spawn(transfer);
    }
}

#[cfg(test)]
mod tests;
