//! Clients of the v3 API that watch: each has one stream at a time, with several watchers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_core::state::auth::Caller;
use keelson_core::watch::WatchStream;
use keelson_core::{Index, MemberId};
use keelson_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};

use super::Woken;
use crate::check::watch::{CheckedWatch, EventLog};
use crate::sim::event::Event;
use crate::sim::mutant::Mutant;
use crate::sim::nodes::Life;
use crate::sim::world::World;

/// The size from which a message with events is split, for watches that allow it, in bytes.
const FRAGMENT_BYTES: usize = 60;

/// A watch whose creation has not been answered.
pub(super) enum Creating {
    Watch(CheckedWatch),
    /// It must be refused.
    Bad,
}

/// A stream, at a member's incarnation.
struct Connection {
    member: MemberId,
    boot: u64,
    caller: Caller,
    /// What the member had applied when the stream was opened.
    from: Index,
    stream: WatchStream,
    /// The stream may have a message. Until it is set, a client that has read all does not look.
    woken: Woken,
}

/// One client.
#[derive(Default)]
pub(super) struct StreamClient {
    connection: Option<Connection>,
    /// In the order of the requests, which is that of the answers.
    pub(super) creating: VecDeque<Creating>,
    /// By watch id.
    pub(super) watches: BTreeMap<i64, CheckedWatch>,
    /// Those that are created anew on the next stream.
    lost: Vec<CheckedWatch>,
    /// The least revision that the answer to a progress request may have.
    progress: Option<i64>,
    /// The last id that the client has chosen itself.
    pub(super) last_id: i64,
}

impl StreamClient {
    /// The number of watches, created or not.
    pub(super) fn len(&self) -> usize {
        self.watches.len() + self.creating.len()
    }

    /// The connection is gone. Messages that were not read are lost.
    fn disconnect(&mut self) {
        self.connection = None;
        self.progress = None;
        let creating = self
            .creating
            .drain(..)
            .filter_map(|creating| match creating {
                Creating::Watch(watch) => Some(watch),
                Creating::Bad => None,
            });
        self.lost.extend(creating);
        let watches = std::mem::take(&mut self.watches);
        self.lost.extend(watches.into_values());
        self.lost
            .retain(|watch| !watch.is_over() && !watch.is_cancelling());
    }
}

impl World {
    /// A client's turn: it connects, sends requests, reads some messages.
    pub(in crate::sim) fn stream_client_acts(&mut self, number: usize) -> Result<(), String> {
        let wait = match self.dice.chance(0.03) && !self.calm {
            true => self.dice.between(2_000, 20_000),
            false => self.dice.between(20, 400),
        };
        self.clock.after(wait, Event::StreamClient(number));
        if !self.connect_stream(number)? {
            return Ok(());
        }
        if !self.clients.quiet && self.dice.chance(0.3) {
            self.send_watch_request(number)?;
        }
        let most = self.dice.between(0, 40);
        self.read_stream(number, most)
    }

    /// Connects to a member if there is none, or if it has died. Returns whether there is a member
    /// that runs.
    fn connect_stream(&mut self, number: usize) -> Result<bool, String> {
        let at = self.watches.streams[number].connection.as_ref();
        let at = at.map(|connection| (connection.member, connection.boot));
        let lives = at.filter(|(id, boot)| self.lives(*id, *boot));
        let leaves = !self.calm && self.dice.chance(0.01);
        let at = match lives.filter(|_| !leaves) {
            Some((id, _)) => id,
            None => {
                self.watches.streams[number].disconnect();
                let Some(id) = self.dice.pick(&self.running()) else {
                    return Ok(false);
                };
                if !self.open_stream(number, id)? {
                    return Ok(false);
                }
                id
            }
        };
        let now = self.clock.now_ms();
        let member = self.members.get(&at);
        Ok(member.is_some_and(|member| member.paused_until <= now))
    }

    /// Opens a stream, and creates the watches of the last one there.
    fn open_stream(&mut self, number: usize, member: MemberId) -> Result<bool, String> {
        let has_state = |life: &mut Life| life.machine().is_some();
        if !self.life(member).is_some_and(has_state) {
            return Ok(false);
        }
        let caller = self.stream_caller(member, number);
        let checked = Arc::new(self.checked_caller(&caller));
        let Some(life) = self.life(member) else {
            return Ok(false);
        };
        let boot = life.log.boot();
        let woken = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&woken);
        let wake = move || flag.store(true, Ordering::Relaxed);
        let mut stream = life.watches.hub.stream(checked, wake);
        stream.set_fragment_bytes(FRAGMENT_BYTES);
        let from = life.applied();
        let client = &mut self.watches.streams[number];
        client.connection = Some(Connection {
            member,
            boot,
            caller,
            from,
            stream,
            woken,
        });
        for mut watch in std::mem::take(&mut client.lost) {
            let request = watch.resume();
            self.create_on_stream(number, Creating::Watch(watch), request)?;
        }
        Ok(true)
    }

    /// Requests a watch on a stream. Its answer must be that of its user's rights.
    pub(super) fn create_on_stream(
        &mut self,
        number: usize,
        creating: Creating,
        request: WatchCreateRequest,
    ) -> Result<(), String> {
        let connection = self.watches.streams[number].connection.as_ref();
        let is_denied = match connection {
            Some(at) if self.lives(at.member, at.boot) => {
                self.watch_is_denied(at.member, &at.caller, &request)?
            }
            _ => false,
        };
        if is_denied && self.mutant == Some(Mutant::WatchOutlivesRights) {
            return Ok(());
        }
        let creating = if is_denied { Creating::Bad } else { creating };
        self.watches.streams[number].creating.push_back(creating);
        self.with_stream(number, |stream| stream.create(request));
        Ok(())
    }

    /// Sends a request, if there is a connection.
    pub(super) fn with_stream(&mut self, number: usize, send: impl FnOnce(&mut WatchStream)) {
        if let Some(connection) = &mut self.watches.streams[number].connection {
            send(&mut connection.stream);
            connection.woken.store(true, Ordering::Relaxed);
        }
    }

    /// The member of a stream.
    pub(super) fn member_of_stream(&self, number: usize) -> Option<MemberId> {
        let connection = self.watches.streams[number].connection.as_ref()?;
        let lives = self.lives(connection.member, connection.boot);
        lives.then_some(connection.member)
    }

    /// Requests a progress response.
    pub(super) fn request_progress(&mut self, number: usize) -> Result<(), String> {
        let Some(id) = self.member_of_stream(number) else {
            return Ok(());
        };
        let revision = self
            .life(id)
            .map_or(0, |life| life.applier.view().revision());
        let early = self.mutant == Some(Mutant::ProgressTooEarly);
        let mut is_answered = false;
        self.with_stream(number, |stream| {
            // Without watchers there is no answer.
            is_answered = !stream.is_empty();
            if !early {
                stream.request_progress();
            }
        });
        if is_answered {
            self.watches.streams[number].progress = Some(revision);
        }
        match is_answered && early {
            true => self.answer_progress_early(number, revision),
            false => Ok(()),
        }
    }

    /// Whether a progress request has no answer yet.
    pub(super) fn waits_for_progress(&self, number: usize) -> bool {
        self.watches.streams[number].progress.is_some()
    }

    /// Reads some messages. A client that has read all does not look again before it is woken.
    pub(super) fn read_stream(&mut self, number: usize, most: u64) -> Result<(), String> {
        for _ in 0..most {
            let Some(connection) = &mut self.watches.streams[number].connection else {
                return Ok(());
            };
            if !connection.woken.load(Ordering::Relaxed) {
                return Ok(());
            }
            // Before: the stream may wake its client while it has nothing.
            connection.woken.store(false, Ordering::Relaxed);
            let message = connection.stream.next();
            let Some(message) = message.map_err(|e| e.to_string())? else {
                continue;
            };
            connection.woken.store(true, Ordering::Relaxed);
            let response = message.response(ResponseHeader::default());
            self.stream_receives(number, &response)?;
        }
        Ok(())
    }

    pub(super) fn stream_receives(
        &mut self,
        number: usize,
        response: &WatchResponse,
    ) -> Result<(), String> {
        if self.trace {
            println!("{:>8} stream {number}: {response:?}", self.clock.now_ms());
        }
        let at = response.header.as_ref().map_or(0, |header| header.revision);
        self.note((at as u64) << 8 ^ response.watch_id as u64 ^ (number as u64) << 56);
        self.tally.sent += response.events.len() as u64;
        if self.ends_for_rights(number, response)? {
            return Ok(());
        }
        let watches = &mut self.watches;
        let (log, client) = (&watches.log, &mut watches.streams[number]);
        if response.created {
            return answer_creation(client, response, log);
        }
        if response.watch_id == -1 {
            if client.progress.take().is_none_or(|least| at < least) {
                return Err(format!(
                    "v3 watch: progress without a request: {response:?}"
                ));
            }
            let mut watches = client.watches.values_mut();
            return watches.try_for_each(|watch| watch.progress(at, log));
        }
        let Some(watch) = client.watches.get_mut(&response.watch_id) else {
            return Err(format!("v3 watch: of no watcher: {response:?}"));
        };
        watch.receive(response, log)?;
        if watch.is_over() {
            self.tally.compacted += u64::from(response.compact_revision != 0);
            client.watches.remove(&response.watch_id);
        }
        Ok(())
    }

    /// Checks a message by the rights of its watch's user. Returns whether it ends the watch for a
    /// lack of them.
    fn ends_for_rights(&mut self, number: usize, response: &WatchResponse) -> Result<bool, String> {
        let client = &self.watches.streams[number];
        let watch = client.watches.get(&response.watch_id);
        let (Some(at), Some(watch)) = (&client.connection, watch) else {
            return Ok(false);
        };
        if response.created || !self.lives(at.member, at.boot) {
            return Ok(false);
        }
        let (caller, request) = (&at.caller, watch.request());
        let ends = self.check_watched((at.member, at.from), caller, request, response)?;
        if ends {
            self.tally.denied += 1;
            let client = &mut self.watches.streams[number];
            client.watches.remove(&response.watch_id);
        }
        Ok(ends)
    }
}

/// The oldest creation is answered.
fn answer_creation(
    client: &mut StreamClient,
    response: &WatchResponse,
    log: &EventLog,
) -> Result<(), String> {
    let id = response.watch_id;
    let refused = response.canceled && id == -1 && !response.cancel_reason.is_empty();
    match client.creating.pop_front() {
        Some(Creating::Bad) if refused => Ok(()),
        Some(Creating::Watch(mut watch)) if !refused => {
            watch.receive(response, log)?;
            match client.watches.insert(id, watch) {
                None => Ok(()),
                Some(_) => Err(format!("v3 watch: two watches have the id {id}")),
            }
        }
        _ => Err(format!(
            "v3 watch: not the answer to its creation: {response:?}"
        )),
    }
}
