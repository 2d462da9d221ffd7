//! Conversion of raft-rs's `Ready` to `Output`: what must be durable before which message leaves.

use keelson_proto::peer;
use keelson_proto::peer::peer_message::Message as PeerMessageKind;
use raft::{Ready, eraftpb};

use super::{Append, Node, Output, convert, log};
use crate::{Committed, Index, LastIncluded, MemberId, Term};

impl Node {
    /// Takes everything that raft-rs has ready. True if the rest needs a step of its own.
    pub(super) fn process_ready(&mut self, output: &mut Output) -> bool {
        while self.raw.has_ready() {
            if self.raw.snap().is_some_and(|snap| !snap.is_empty()) && output.append.is_some() {
                return true;
            }
            let mut ready = self.raw.ready();
            let number = ready.number();
            let leads = self.is_leader();
            for state in ready.take_read_states() {
                self.take_read_state(&state.request_ctx, state.index, output);
            }
            self.take_writes(&mut ready, output);
            let messages = match leads {
                true => ready.take_messages(),
                false => ready.take_persisted_messages(),
            };
            let committed = ready.take_committed_entries();
            self.raw.advance_append_async(ready);
            self.deliver(committed, output);
            self.queue_messages(messages, leads, number, output);
            if self.unpersisted == 0 {
                self.raw.on_persist_ready(number);
            }
            self.settle_timeout();
        }
        false
    }

    /// Collects what must become durable, and adds it to the log in memory for raft-rs.
    fn take_writes(&mut self, ready: &mut Ready, output: &mut Output) {
        let number = ready.number();
        let entries = ready.take_entries();
        let snapshot = ready.snapshot().clone();
        let hard_state = ready.hs().map(convert::hard_state_to_ours);
        self.lazy_commit |= hard_state.is_some();
        let has_snapshot = !snapshot.is_empty();
        // After a restart only entries that the log records as committed take effect, and the
        // members before a removal may no longer be a quorum. Other commits become durable with
        // later entries.
        let is_change =
            |entry: &eraftpb::Entry| entry.entry_type != eraftpb::EntryType::EntryNormal;
        let must_commit = self.lazy_commit && ready.committed_entries().iter().any(is_change);
        if !has_snapshot && entries.is_empty() && !ready.must_sync() && !must_commit {
            return;
        }
        let append = output.append.get_or_insert_default();
        append.number = number;
        append.order_only = false;
        self.unpersisted = number;
        if let Some(hard_state) = hard_state
            && (hard_state.term, hard_state.vote) != self.persisted_vote
        {
            self.persisted_vote = (hard_state.term, hard_state.vote);
            self.unpersisted_vote = number;
        }
        if self.lazy_commit {
            let current = self.raw.raft.hard_state();
            append.hard_state = Some(convert::hard_state_to_ours(&current));
            self.lazy_commit = false;
        }
        if has_snapshot {
            self.restore(&snapshot, append);
        }
        let bytes = entries.iter().map(log::weight).sum();
        self.unpersisted_bytes.add(number, bytes);
        append
            .entries
            .extend(entries.iter().map(convert::entry_to_ours));
        self.raw.mut_store().append(&entries);
    }

    fn restore(&mut self, snapshot: &eraftpb::Snapshot, append: &mut Append) {
        let meta = snapshot.get_metadata();
        let last_included = LastIncluded {
            index: Index(meta.index),
            term: Term(meta.term),
        };
        assert!(
            append.entries.is_empty(),
            "a snapshot comes before the entries after it"
        );
        let conf_state = convert::conf_state_to_ours(meta.get_conf_state());
        append.snapshot = Some((last_included, conf_state));
        self.raw.mut_store().restore(last_included);
        if let Some((_, roster)) = self
            .offered
            .take_if(|(offered, _)| *offered == last_included)
        {
            self.roster = roster;
        }
        // raft-rs looks for unapplied entries after its applied index before it campaigns, and the
        // snapshot has replaced them: that index moves now, not when the snapshot is durable.
        self.raw.raft.raft_log.applied = meta.index;
        self.delivered = meta.index;
        self.delivered_term = meta.term;
        self.durable = meta.index;
        self.proposals.drop_through(meta.term);
    }

    fn deliver(&mut self, entries: Vec<eraftpb::Entry>, output: &mut Output) {
        let any = !entries.is_empty();
        for entry in entries {
            assert_eq!(
                entry.index,
                self.delivered + 1,
                "a gap in the committed entries"
            );
            self.settle_pending(&entry, output);
            let conf = match entry.entry_type {
                eraftpb::EntryType::EntryNormal => None,
                _ => Some(self.apply_membership(&entry)),
            };
            self.delivered = entry.index;
            output.apply.push(Committed {
                entry: convert::entry_to_ours(&entry),
                conf,
            });
        }
        // For raft-rs a delivered entry is applied: membership changes have just taken effect.
        if any {
            self.raw.advance_apply_to(self.delivered);
        }
    }

    /// Sends messages now or after the append. A leader's messages may leave at once, in parallel
    /// with its own disk (Raft thesis, section 10.2.1), if its term and vote are durable. They
    /// always are if other voters elected it; a lone voter elects itself, and after a crash could
    /// lead the same term with other entries for its learners. A follower's messages promise
    /// durability and wait for the disk, except answers to heartbeats, which promise only the term.
    fn queue_messages(
        &mut self,
        messages: Vec<eraftpb::Message>,
        leads: bool,
        number: u64,
        output: &mut Output,
    ) {
        for message in messages {
            let to = MemberId(message.to);
            let kind = message.msg_type;
            let harmless =
                kind == eraftpb::MessageType::MsgHeartbeatResponse && self.unpersisted_vote == 0;
            let elected = leads && self.unpersisted_vote == 0;
            let now = elected || harmless || self.unpersisted == 0;
            let message = convert::message_to_peer(message);
            if kind == eraftpb::MessageType::MsgSnapshot {
                output.snapshots.push((to, message));
                continue;
            }
            let message = peer::PeerMessage {
                message: Some(PeerMessageKind::Raft(message)),
            };
            if now {
                output.send.push((to, message));
                continue;
            }
            let append = output.append.get_or_insert_with(|| Append {
                number,
                order_only: true,
                ..Append::default()
            });
            append.number = number;
            append.send_after.push((to, message));
            self.unpersisted = number;
        }
    }

    fn take_read_state(&mut self, context: &[u8], index: u64, output: &mut Output) {
        let (incarnation, attempt) = context.split_at(8.min(context.len()));
        if incarnation != self.config.incarnation.to_be_bytes() {
            return;
        }
        let Ok(attempt) = attempt.try_into().map(u64::from_be_bytes) else {
            return;
        };
        let readers = self.reads.end(attempt);
        self.answer_readers(readers, Index(index), output);
    }
}
