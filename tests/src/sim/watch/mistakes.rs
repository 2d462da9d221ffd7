//! Mutants of v3 watches: messages that a shell sends too early.

use keelson_core::node::Append;
use keelson_core::{MemberId, proposal};
use keelson_proto::etcdserverpb::{PutRequest, ResponseHeader, WatchResponse};
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use keelson_proto::mvccpb::{Event, KeyValue};
use prost::Message;

use crate::sim::world::World;

impl World {
    /// A mutant: answers a progress request at once, although events may be on their way.
    pub(super) fn answer_progress_early(
        &mut self,
        number: usize,
        revision: i64,
    ) -> Result<(), String> {
        let response = WatchResponse {
            header: header(revision),
            watch_id: -1,
            ..WatchResponse::default()
        };
        self.stream_receives(number, &response)
    }

    /// A mutant: sends the events of puts that have only been appended.
    pub(in crate::sim) fn send_events_early(
        &mut self,
        id: MemberId,
        append: &Append,
    ) -> Result<(), String> {
        let machine = self.life(id).and_then(|life| life.machine());
        let Some(revision) = machine.map(|machine| machine.view().revision()) else {
            return Ok(());
        };
        for (revision, entry) in (revision + 1..).zip(&append.entries) {
            let command = proposal::decode(&entry.data).map(|(_, command)| command);
            let command = command.and_then(|command| Command::decode(command).ok());
            if let Some(Op::Put(put)) = command.and_then(|command| command.op) {
                self.send_put_early(id, revision, &put)?;
            }
        }
        Ok(())
    }

    fn send_put_early(
        &mut self,
        id: MemberId,
        revision: i64,
        put: &PutRequest,
    ) -> Result<(), String> {
        let event = Event {
            kv: Some(KeyValue {
                key: put.key.clone(),
                value: put.value.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        for number in 0..self.watches.streams.len() {
            if self.member_of_stream(number) != Some(id) {
                continue;
            }
            let watches = self.watches.streams[number].watches.iter();
            let wanted = watches.filter(|(_, watch)| watch.wants(&event));
            let ids: Vec<i64> = wanted.map(|(id, _)| *id).collect();
            for watch_id in ids {
                let response = WatchResponse {
                    header: header(revision),
                    watch_id,
                    events: vec![event.clone()],
                    ..WatchResponse::default()
                };
                self.stream_receives(number, &response)?;
            }
        }
        Ok(())
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}
