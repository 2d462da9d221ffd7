//! Clients that observe elections, as the product's `v3/election/observe.rs`: a linearizable read
//! of the first key, then a watch of it. The values of one observer never go back in
//! revision, at any member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keelson_core::MemberId;
use keelson_core::lock;
use keelson_core::state::auth::Caller;
use keelson_core::watch::{WatchContent, WatchStream};
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use keelson_proto::mvccpb::KeyValue;
use keelson_proto::mvccpb::event::EventType;

use super::contenders::name_of;
use crate::sim::event::Event;
use crate::sim::mutant::Mutant;
use crate::sim::nodes::Life;
use crate::sim::reads::ReadOrigin;
use crate::sim::world::World;

/// A client that observes the first election.
#[derive(Default)]
pub(super) struct Observer {
    at: Option<(MemberId, u64)>,
    /// The number of its read, and when it was sent.
    step: u64,
    sent: u64,
    watch: Option<Box<WatchStream>>,
    /// Create and mod revision of the last value.
    last: (i64, i64),
}

/// The observed election.
const ELECTION: u64 = 0;

impl World {
    /// An observer's turn.
    pub(in crate::sim) fn observer_acts(&mut self, number: usize) -> Result<(), String> {
        if self.clients.quiet {
            return Ok(());
        }
        let wait = self.dice.between(10, 300);
        self.clock.after(wait, Event::Observer(number));
        let now = self.clock.now_ms();
        let observer = &self.locks.observers[number];
        let lives = observer.at.is_some_and(|(id, boot)| self.lives(id, boot));
        let is_late = observer.watch.is_none() && observer.sent + self.swarm.patience_ms < now;
        if !lives || is_late || self.dice.chance(0.05) {
            return self.observes_at_another(number);
        }
        let at = observer.at.and_then(|(id, _)| self.members.get(&id));
        match at.is_some_and(|member| member.paused_until <= now) {
            true => self.observer_looks(number),
            false => Ok(()),
        }
    }

    fn observes_at_another(&mut self, number: usize) -> Result<(), String> {
        let Some(id) = self.dice.pick(&self.running()) else {
            return Ok(());
        };
        let has_state = |life: &mut Life| life.machine().is_some();
        if !self.life(id).is_some_and(has_state) {
            return Ok(());
        }
        let boot = self.boot(id);
        self.locks.observers[number].at = Some((id, boot));
        self.observer_finds(number)
    }

    /// Reads the leader.
    fn observer_finds(&mut self, number: usize) -> Result<(), String> {
        let now = self.clock.now_ms();
        let observer = &mut self.locks.observers[number];
        let Some((id, _)) = observer.at else {
            return Ok(());
        };
        (observer.watch, observer.sent) = (None, now);
        observer.step += 1;
        let step = observer.step;
        if self.mutant == Some(Mutant::ObservedLocally) {
            return self.observer_may_read(id, number, step);
        }
        self.ask_to_read(id, ReadOrigin::Observer(number, step));
        Ok(())
    }

    /// The index of an observer's read has been applied.
    pub(in crate::sim) fn observer_may_read(
        &mut self,
        id: MemberId,
        number: usize,
        step: u64,
    ) -> Result<(), String> {
        if self.locks.observers[number].step != step {
            return Ok(());
        }
        let name = name_of(ELECTION);
        let machine = self.life(id).and_then(|life| life.machine());
        let view = machine.ok_or("elections: a read without a state")?.view();
        let found = view.range(&lock::first_key(&name));
        let found = found.map_err(|error| format!("elections: {error}"))?;
        let revision = found.header.unwrap_or_default().revision;
        match found.kvs.into_iter().next() {
            Some(leader) => {
                let key = leader.key.clone();
                self.observed(number, &leader)?;
                self.observer_follows(number, key, revision);
            }
            None => {
                let (key, range_end) = lock::keys(&name);
                self.observer_watches(
                    number,
                    WatchCreateRequest {
                        key,
                        range_end,
                        start_revision: revision + 1,
                        filters: vec![FilterType::Nodelete.into()],
                        ..WatchCreateRequest::default()
                    },
                );
            }
        }
        Ok(())
    }

    fn observer_follows(&mut self, number: usize, key: Bytes, revision: i64) {
        let watch = WatchCreateRequest {
            key,
            start_revision: revision + 1,
            ..WatchCreateRequest::default()
        };
        self.observer_watches(number, watch);
    }

    fn observer_watches(&mut self, number: usize, watch: WatchCreateRequest) {
        let at = self.locks.observers[number].at;
        let Some(life) = at.and_then(|(id, _)| self.life(id)) else {
            return;
        };
        let hub = &life.watches.hub;
        // An observer looks at its turns, and needs no wake.
        let woken = Arc::new(AtomicBool::new(false));
        let wake = move || woken.store(true, Ordering::Relaxed);
        let mut stream = hub.stream(Arc::new(Caller::Member), wake);
        stream.create(watch);
        self.locks.observers[number].watch = Some(Box::new(stream));
    }

    /// Reads the messages of an observer's watch.
    fn observer_looks(&mut self, number: usize) -> Result<(), String> {
        loop {
            let observer = &mut self.locks.observers[number];
            let Some(stream) = &mut observer.watch else {
                return Ok(());
            };
            let message = stream.next().map_err(|error| error.to_string())?;
            let Some(message) = message else {
                return Ok(());
            };
            let events = match message.content {
                WatchContent::Events { events, .. } => events,
                WatchContent::Compacted(_) => return self.observer_finds(number),
                _ => continue,
            };
            for event in events.iter().map(|event| event.message()) {
                let kv = event.kv.unwrap_or_default();
                if event.r#type == i32::from(EventType::Delete) {
                    return self.observer_finds(number);
                }
                let is_first = self.locks.observers[number].last.0 != kv.create_revision;
                self.observed(number, &kv)?;
                if is_first {
                    self.observer_follows(number, kv.key, kv.mod_revision);
                    break;
                }
            }
        }
    }

    /// Records an observed leader: its value must be committed, and not older than the last one.
    fn observed(&mut self, number: usize, leader: &KeyValue) -> Result<(), String> {
        let seen = (leader.create_revision, leader.mod_revision);
        let observer = &mut self.locks.observers[number];
        if seen < observer.last {
            return Err(format!(
                "elections: an observer sees {leader:?} after {:?}",
                observer.last
            ));
        }
        observer.last = seen;
        self.note(seen.0.unsigned_abs() << 20 ^ seen.1.unsigned_abs());
        let request = RangeRequest {
            key: leader.key.clone(),
            revision: leader.mod_revision,
            ..RangeRequest::default()
        };
        let found = self.watches.model.range(&request);
        let found = found.map_err(|error| format!("elections: {error:?}"))?;
        match found.kvs.first() == Some(leader) {
            true => Ok(()),
            false => Err(format!("elections: {leader:?} is not {:?}", found.kvs)),
        }
    }
}
