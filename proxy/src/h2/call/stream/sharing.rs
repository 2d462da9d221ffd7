//! The watches of a stream that hubs serve.

use bytes::Bytes;

use super::*;
use crate::h2::call::shared;
use crate::h2::shared::Offer;
use crate::policy::resumption::StreamResponse;
use crate::policy::shared_log::{Next, SharedResponse};

/// A stream moves to hubs when its client has sent no request for so long.
const QUIET: Duration = Duration::from_secs(1);

/// The time for a member to state its progress, and the pause before it is requested again.
const JOIN_TIME_MAX: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a stream has left its hubs.
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

impl Stream {
    /// The keys of the watches, if all could be served by hubs now.
    pub(in crate::h2::call) fn offer(&mut self, fields: &[u8], now: Instant) -> Option<Offer> {
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
        let keys = watches.settled()?.map(|(id, create, _)| {
            let form = requests::shared_form(&create.encoded)?;
            Some((id, shared::key(fields, &form)))
        });
        let keys = keys.collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(keys)
    }

    /// The stream is to move to hubs. Returns whether the member's progress is to be requested.
    pub(in crate::h2::call) fn join(&mut self, joining: Joining) -> bool {
        let StreamState::Watch(watches) = &mut self.state else {
            return false;
        };
        watches.request_progress();
        self.joining = Some(joining);
        true
    }

    /// Moves the watches to the hubs, once the member has stated its progress. Returns whether they
    /// have moved.
    pub(in crate::h2::call) fn attach(&mut self) -> bool {
        let StreamState::Watch(watches) = &self.state else {
            return false;
        };
        if self.joining.is_none() || !watches.has_progress() {
            return false;
        }
        let hubs = self.joining.take().map(|joining| joining.hubs);
        let (Some(hubs), Some(settled)) = (hubs, watches.settled()) else {
            return false;
        };
        if self.responses.is_passing() {
            return false;
        }
        let cursors = settled.map(|(id, _, next)| {
            let hub = hubs.get(&id)?;
            Some((id, (Arc::clone(hub), hub.cursor(next)?)))
        });
        let Some(cursors) = cursors.collect::<Option<BTreeMap<_, _>>>() else {
            return false;
        };
        self.shared = cursors;
        self.responses = ResponseReader::default();
        true
    }

    /// The hubs that serve the stream.
    pub(in crate::h2::call) fn hubs(&self) -> Vec<Arc<Hub>> {
        let mut hubs: Vec<Arc<Hub>> = vec![];
        for (hub, _) in self.shared.values() {
            if !hubs.iter().any(|one| Arc::ptr_eq(one, hub)) {
                hubs.push(Arc::clone(hub));
            }
        }
        hubs
    }

    /// The stream leaves its hubs. Returns them.
    pub(in crate::h2::call) fn detach(&mut self) -> Vec<Arc<Hub>> {
        let hubs = self.hubs();
        self.shared.clear();
        self.quiet_since = Instant::now() + LEFT_PAUSE;
        hubs
    }

    /// What a hub has next for a watch of the stream, with the watch's id.
    pub(in crate::h2::call) fn next_shared(
        &mut self,
        of: &Arc<Hub>,
    ) -> Next<(i64, SharedResponse<Bytes>)> {
        let StreamState::Watch(watches) = &mut self.state else {
            return Next::Gone;
        };
        for (id, (hub, cursor)) in &mut self.shared {
            if !Arc::ptr_eq(hub, of) {
                continue;
            }
            let Some(next) = watches.position(*id) else {
                return Next::Gone;
            };
            match hub.take(cursor, next) {
                Next::End => {}
                Next::Gone => return Next::Gone,
                Next::Response(response) => {
                    let read = StreamResponse {
                        header: response.header,
                        watch_id: *id,
                        has_events: response.events.is_some(),
                        last_revision: response.events.as_ref().map_or(0, |one| one.last),
                        ..StreamResponse::default()
                    };
                    watches.response(&read);
                    return Next::Response((*id, response));
                }
            }
        }
        Next::End
    }
}
