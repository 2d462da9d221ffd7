//! Requests about leases that wait at a member: for a leader, for the leader's answer, for a read
//! that confirms the leadership, or for the outcome of a proposal.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::peer::{
    LeaseAnswer as AnswerMessage, LeaseRequest, LeaseTime, PeerMessage, peer_message,
};

use super::{LeaseOutcome, LessorEffects};
use crate::{MemberId, Millis};

/// The most ids in one message to the leader.
const IDS_MAX: usize = 4_096;

/// A request of a follower without an answer is sent again after this time, in milliseconds.
const RESEND_MS: u64 = 500;

/// The pause after a member answered that it does not lead, in milliseconds; etcd's.
const NOT_LEADER_MS: u64 = 50;

/// The most requests of other members that may wait at a leader. A follower sends one that was
/// dropped again.
const FORWARDED_MAX: usize = 200_000;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// To a client of this member, with this number.
    Local(u64),
    /// To a follower.
    Peer {
        member: MemberId,
        context: u64,
        incarnation: u64,
    },
}

/// A request about one lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) origin: Origin,
    pub(super) id: i64,
    pub(super) renew: bool,
    /// Its deadline.
    pub(super) until: Millis,
    /// The grant of the lease that was renewed for it.
    pub(super) renewed: Option<u64>,
}

/// Requests that were sent to a leader in one message.
#[derive(Debug)]
struct Sent {
    at: Millis,
    calls: Vec<Call>,
}

/// All waiting requests of a member.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Those that have not been sent or begun.
    pub(super) waiting: Vec<Call>,
    /// By the context of their message.
    sent: BTreeMap<u64, Sent>,
    last_context: u64,
    /// Nothing is sent before.
    send_at: Millis,
    /// By lease: those that wait for the outcome of a proposal.
    pub(super) held: BTreeMap<i64, Vec<Call>>,
    /// By the number of the read that confirms them.
    pub(super) reads: BTreeMap<u64, Vec<Call>>,
    /// Those for the next read.
    pub(super) unconfirmed: Vec<Call>,
    /// The number of waiting requests of other members.
    forwarded: usize,
    /// When late requests are dropped next.
    sweep_at: Millis,
    answers: BTreeMap<(MemberId, u64, u64), Vec<LeaseTime>>,
}

impl Calls {
    /// Adds a client's request.
    pub(super) fn add(&mut self, number: u64, id: i64, renew: bool, until: Millis) {
        self.waiting.push(Call {
            origin: Origin::Local(number),
            id,
            renew,
            until,
            renewed: None,
        });
    }

    /// Adds a follower's requests.
    pub(super) fn add_forwarded(&mut self, from: MemberId, request: LeaseRequest, until: Millis) {
        if FORWARDED_MAX < self.forwarded + request.ids.len() {
            return;
        }
        self.forwarded += request.ids.len();
        let origin = Origin::Peer {
            member: from,
            context: request.context,
            incarnation: request.boot,
        };
        let call = |id| Call {
            origin,
            id,
            renew: request.renew,
            until,
            renewed: None,
        };
        self.waiting.extend(request.ids.into_iter().map(call));
    }

    /// Whether nothing waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.sent.is_empty()
            && self.held.is_empty()
            && self.reads.is_empty()
            && self.unconfirmed.is_empty()
    }

    /// The leader or its term has changed: what clients of this member wait for begins again.
    /// Followers are answered that this member does not lead.
    pub(super) fn begin_again(&mut self, effects: &mut LessorEffects) {
        let sent = std::mem::take(&mut self.sent).into_values();
        let held = std::mem::take(&mut self.held).into_values();
        let reads = std::mem::take(&mut self.reads).into_values();
        let all = sent.flat_map(|sent| sent.calls);
        let all = all.chain(held.flatten()).chain(reads.flatten());
        let mut all: Vec<_> = all.chain(self.unconfirmed.drain(..)).collect();
        all.append(&mut self.waiting);
        self.send_at = Millis(0);
        self.refuse(all, effects);
    }

    /// Refuses followers' requests of these, once for each message; the others wait for a leader.
    pub(super) fn refuse(&mut self, calls: Vec<Call>, effects: &mut LessorEffects) {
        let mut refused = BTreeSet::new();
        for call in calls {
            match call.origin {
                Origin::Local(_) => self.waiting.push(Call {
                    renewed: None,
                    ..call
                }),
                Origin::Peer {
                    member,
                    context,
                    incarnation,
                } => {
                    self.forwarded -= 1;
                    refused.insert((member, context, incarnation));
                }
            }
        }
        for (member, context, boot) in refused {
            let answer = AnswerMessage {
                context,
                boot,
                leads: false,
                times: Vec::new(),
            };
            effects.send.push((member, message(answer)));
        }
    }

    /// Sends the waiting requests to the leader.
    pub(super) fn forward(
        &mut self,
        now: Millis,
        leader: MemberId,
        incarnation: u64,
        effects: &mut LessorEffects,
    ) {
        let is_late = |sent: &Sent| sent.at.0 + RESEND_MS <= now.0;
        // Contexts increase with the times of their messages.
        while let Some(late) = self.sent.first_entry()
            && is_late(late.get())
        {
            self.waiting.extend(late.remove().calls);
        }
        if leader == MemberId::NONE || now < self.send_at {
            return;
        }
        for renew in [true, false] {
            let calls: Vec<_> = self
                .waiting
                .extract_if(.., |call| call.renew == renew)
                .collect();
            for calls in calls.chunks(IDS_MAX) {
                self.last_context += 1;
                let mut ids: Vec<_> = calls.iter().map(|call| call.id).collect();
                ids.sort_unstable();
                ids.dedup();
                let request = LeaseRequest {
                    context: self.last_context,
                    boot: incarnation,
                    renew,
                    ids,
                };
                let request = peer_message::Message::LeaseRequest(request);
                let message = Some(request);
                effects.send.push((leader, PeerMessage { message }));
                let calls = calls.to_vec();
                self.sent.insert(self.last_context, Sent { at: now, calls });
            }
        }
    }

    /// A leader's answer. One to a request that was sent again since is ignored.
    pub(super) fn answered(
        &mut self,
        now: Millis,
        answer: AnswerMessage,
        effects: &mut LessorEffects,
    ) {
        let Some(sent) = self.sent.get_mut(&answer.context) else {
            return;
        };
        if !answer.leads {
            self.waiting.append(&mut sent.calls);
            self.sent.remove(&answer.context);
            self.send_at = Millis(now.0 + NOT_LEADER_MS);
            return;
        }
        let times = answer.times.into_iter().map(|time| (time.id, time));
        let times: BTreeMap<i64, LeaseTime> = times.collect();
        for call in sent
            .calls
            .extract_if(.., |call| times.contains_key(&call.id))
        {
            if let Origin::Local(number) = call.origin {
                let outcome = LeaseOutcome::from(times[&call.id]);
                effects.answers.push((number, outcome));
            }
        }
        if sent.calls.is_empty() {
            self.sent.remove(&answer.context);
        }
    }

    /// Keeps a request until the outcome of a proposal about its lease.
    pub(super) fn hold(&mut self, call: Call) {
        self.held.entry(call.id).or_default().push(call);
    }

    /// The lease of these held requests is gone. They are answered after a read: the id may have
    /// been granted again by an entry that is committed and not applied here yet.
    pub(super) fn confirm_held(&mut self, id: i64) {
        let held = self.held.remove(&id).into_iter().flatten();
        let again = held.map(|call| Call {
            renewed: None,
            ..call
        });
        self.unconfirmed.extend(again);
    }

    /// Answers a request.
    pub(super) fn answer(
        &mut self,
        call: Call,
        outcome: LeaseOutcome,
        effects: &mut LessorEffects,
    ) {
        match call.origin {
            Origin::Local(number) => effects.answers.push((number, outcome)),
            Origin::Peer {
                member,
                context,
                incarnation,
            } => {
                self.forwarded -= 1;
                let times = self.answers.entry((member, context, incarnation));
                times.or_default().push(outcome.time(call.id));
            }
        }
    }

    /// Sends the answers of this call to followers, one message for each request.
    pub(super) fn send_answers(&mut self, effects: &mut LessorEffects) {
        for ((member, context, boot), times) in std::mem::take(&mut self.answers) {
            let answer = AnswerMessage {
                context,
                boot,
                leads: true,
                times,
            };
            effects.send.push((member, message(answer)));
        }
    }

    /// Drops requests beyond their deadline, about once a second.
    pub(super) fn drop_late(&mut self, now: Millis, effects: &mut LessorEffects) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = Millis(now.0 + 1_000);
        let forwarded = &mut self.forwarded;
        let mut in_time = |call: &Call| {
            if now < call.until {
                return true;
            }
            match call.origin {
                Origin::Local(number) => effects.answers.push((number, LeaseOutcome::TimedOut)),
                Origin::Peer { .. } => *forwarded -= 1,
            }
            false
        };
        self.waiting.retain(&mut in_time);
        self.unconfirmed.retain(&mut in_time);
        self.sent.retain(|_, sent| {
            sent.calls.retain(&mut in_time);
            !sent.calls.is_empty()
        });
        self.held.retain(|_, calls| {
            calls.retain(&mut in_time);
            !calls.is_empty()
        });
        self.reads.retain(|_, calls| {
            calls.retain(&mut in_time);
            !calls.is_empty()
        });
    }

    /// When this must be called again.
    pub(super) fn wake_at(&self, now: Millis) -> Millis {
        if self.is_empty() {
            return Millis(u64::MAX);
        }
        let resend = self.sent.values().map(|sent| sent.at.0 + RESEND_MS).min();
        let send = (!self.waiting.is_empty() && now < self.send_at).then_some(self.send_at.0);
        let times = [Some(self.sweep_at.0.max(now.0 + 1)), resend, send];
        Millis(times.into_iter().flatten().min().unwrap_or(u64::MAX))
    }
}

fn message(answer: AnswerMessage) -> PeerMessage {
    PeerMessage {
        message: Some(peer_message::Message::LeaseAnswer(answer)),
    }
}
