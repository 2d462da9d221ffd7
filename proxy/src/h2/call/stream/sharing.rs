//! The watches of a stream that hubs serve.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use bytes::Bytes;

use super::*;
use crate::h2::shared::{Offer, SharedWatch};
use crate::policy::resumption::StreamResponse;
use crate::policy::shared_log::{Next, SharedResponse};

/// A stream moves to hubs when its client has sent no request for so long.
const QUIET: Duration = Duration::from_secs(1);

/// The time for a member to state its progress, and the pause before it is requested again.
const JOIN_TIME_MAX: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a stream has left its hubs, or could not move to them.
const LEFT_PAUSE: Duration = Duration::from_secs(5);

/// A move to hubs that waits for the member's statement of what it has sent.
pub(in crate::h2::call) struct Joining {
    hubs: BTreeMap<i64, Arc<Hub>>,
    since: Instant,
}

impl Joining {
    pub(in crate::h2::call) fn new(hubs: Vec<(i64, Arc<Hub>)>, since: Instant) -> Joining {
        Joining {
            hubs: hubs.into_iter().collect(),
            since,
        }
    }
}

/// The watches of a stream that one hub serves.
pub(super) struct Served {
    hub: Arc<Hub>,
    /// Each with its id and cursor.
    watches: Vec<(i64, u64)>,
    /// The watch that receives next: the others before it have received all.
    turn: usize,
}

impl Stream {
    /// The keys of the watches, if all could be served by hubs now.
    pub(in crate::h2::call) fn offer(
        &mut self,
        fields: &[u8],
        keys: &RandomState,
        now: Instant,
    ) -> Option<Offer> {
        let quiet = QUIET <= now.saturating_duration_since(self.quiet_since);
        if !quiet || self.ended {
            return None;
        }
        if let Some(joining) = &self.joining {
            // A member that does not state its progress.
            if JOIN_TIME_MAX <= now.saturating_duration_since(joining.since) {
                self.joining = None;
                self.quiet_since = now + RETRY_PAUSE;
            }
            return None;
        }
        let StreamState::Watch(watches) = &self.state else {
            return None;
        };
        let mut of_fields = keys.build_hasher();
        fields.hash(&mut of_fields);
        let keys = watches.settled()?.map(|(id, create, _)| {
            let mut hasher = of_fields.clone();
            requests::hash_shared_form(&create.encoded, &mut hasher)?;
            Some((id, hasher.finish()))
        });
        let keys = keys.collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(keys)
    }

    /// What a watch has in common with others.
    pub(in crate::h2::call) fn shared_watch(&self, id: i64, fields: &Bytes) -> Option<SharedWatch> {
        let StreamState::Watch(watches) = &self.state else {
            return None;
        };
        let form = requests::shared_form(&watches.create(id)?.encoded)?;
        Some(SharedWatch {
            fields: fields.clone(),
            form: form.freeze(),
        })
    }

    /// The stream is to move to hubs. Returns whether the member's progress is to be requested.
    pub(in crate::h2::call) fn join(&mut self, joining: Joining) -> bool {
        let is_watch = matches!(self.state, StreamState::Watch(_));
        if is_watch {
            self.request_progress();
            self.joining = Some(joining);
        }
        is_watch
    }

    /// The proxy itself requests the member's progress.
    pub(in crate::h2::call) fn request_progress(&mut self) {
        if let StreamState::Watch(watches) = &mut self.state {
            watches.request_progress();
        }
    }

    /// Whether the proxy's request for the member's progress has its answer.
    pub(in crate::h2::call) fn has_progress(&self) -> bool {
        match &self.state {
            StreamState::Watch(watches) => watches.has_progress(),
            StreamState::KeepAlive(_) => false,
        }
    }

    /// The revision up to which a hub has received all events of its watch.
    pub(in crate::h2::call) fn reached(&self) -> Option<i64> {
        let StreamState::Watch(watches) = &self.state else {
            return None;
        };
        let (_, _, next) = watches.settled()?.next()?;
        next.checked_sub(1)
    }

    /// Moves the watches to the hubs, once the member has stated its progress. Returns whether they
    /// have moved.
    pub(in crate::h2::call) fn attach(&mut self, fields: &Bytes) -> bool {
        if self.joining.is_none() || !self.has_progress() {
            return false;
        }
        let hubs = self.joining.take().map(|joining| joining.hubs);
        let served = hubs.and_then(|hubs| self.served(&hubs, fields));
        let Some(served) = served.filter(|served| !served.is_empty()) else {
            self.quiet_since = Instant::now() + LEFT_PAUSE;
            return false;
        };
        self.shared = served;
        self.responses = ResponseReader::default();
        true
    }

    /// The watches by hub. `None`: one of the watches is another one than when the hubs were
    /// chosen, or its hub lacks events that the client lacks.
    fn served(&self, hubs: &BTreeMap<i64, Arc<Hub>>, fields: &Bytes) -> Option<Vec<Served>> {
        let StreamState::Watch(watches) = &self.state else {
            return None;
        };
        if self.responses.is_passing() {
            return None;
        }
        let mut all: Vec<Served> = vec![];
        for (id, _, next) in watches.settled()? {
            let hub = hubs.get(&id)?;
            if !hub.is_of(&self.shared_watch(id, fields)?) {
                return None;
            }
            let watch = (id, hub.cursor(next)?);
            match all.iter_mut().find(|one| Arc::ptr_eq(&one.hub, hub)) {
                Some(served) => served.watches.push(watch),
                None => all.push(Served {
                    hub: Arc::clone(hub),
                    watches: vec![watch],
                    turn: 0,
                }),
            }
        }
        Some(all)
    }

    /// The hubs that serve the stream, each with the number of its watches.
    pub(in crate::h2::call) fn hubs(&self) -> Vec<(Arc<Hub>, usize)> {
        let all = self.shared.iter();
        all.map(|served| (Arc::clone(&served.hub), served.watches.len()))
            .collect()
    }

    /// The stream leaves its hubs. Returns them.
    pub(in crate::h2::call) fn detach(&mut self) -> Vec<(Arc<Hub>, usize)> {
        self.note_positions(None);
        let hubs = self.hubs();
        self.shared.clear();
        self.quiet_since = Instant::now() + LEFT_PAUSE;
        hubs
    }

    /// Sets the positions of the watches to what this hub has sent, or all hubs.
    pub(in crate::h2::call) fn note_positions(&mut self, of: Option<&Arc<Hub>>) {
        let StreamState::Watch(watches) = &mut self.state else {
            return;
        };
        let is_of = |served: &&Served| of.is_none_or(|hub| Arc::ptr_eq(hub, &served.hub));
        for served in self.shared.iter().filter(is_of) {
            for (id, cursor) in &served.watches {
                if let Some(next) = watches.position(*id) {
                    watches.advance_to(*id, served.hub.position(*cursor, next));
                }
            }
        }
    }

    /// What a hub has next for a watch of the stream, with the watch's id.
    pub(in crate::h2::call) fn next_shared(
        &mut self,
        of: &Arc<Hub>,
    ) -> Next<(i64, SharedResponse<Bytes>)> {
        let StreamState::Watch(watches) = &self.state else {
            return Next::Gone;
        };
        let Some(served) = self.shared.iter_mut().find(|one| Arc::ptr_eq(&one.hub, of)) else {
            return Next::End;
        };
        for _ in 0..served.watches.len() {
            let (id, cursor) = &mut served.watches[served.turn];
            let Some(next) = watches.position(*id) else {
                return Next::Gone;
            };
            match of.take(cursor, next) {
                Next::End => served.turn = (served.turn + 1) % served.watches.len(),
                Next::Gone => return Next::Gone,
                Next::Response(mut response) => {
                    // The hub's member may not have received the latest election's result.
                    let term = &mut response.header.raft_term;
                    *term = watches.newest().raft_term.max(*term);
                    return Next::Response((*id, response));
                }
            }
        }
        Next::End
    }

    /// The client is sent the response that a hub had next for it.
    pub(in crate::h2::call) fn sent_shared(
        &mut self,
        of: &Arc<Hub>,
        response: &SharedResponse<Bytes>,
    ) {
        let StreamState::Watch(watches) = &mut self.state else {
            return;
        };
        let Some(served) = self.shared.iter_mut().find(|one| Arc::ptr_eq(&one.hub, of)) else {
            return;
        };
        let (id, cursor) = &mut served.watches[served.turn];
        *cursor += 1;
        watches.response(&StreamResponse {
            header: response.header,
            watch_id: *id,
            has_events: response.events.is_some(),
            last_revision: response.events.as_ref().map_or(0, |one| one.last),
            ..StreamResponse::default()
        });
    }
}
