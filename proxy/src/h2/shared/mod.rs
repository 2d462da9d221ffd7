//! Watches that clients share: several equal ones cost the member one.
//!
//! Each stream of watches begins on a member. From time to time the proxy looks for watches that
//! are equal: the same range and options, and the same fields, without a token. For
//! these it begins a watch of its own, the hub, and moves the streams to it whose watches are all
//! shared. A stream moves at a revision from which the hub has all events, and leaves the hub when
//! its client sends a request, does not keep up, or the hub fails. Leaving is the same as the
//! failure of a member: the stream is continued on a member at its own position.

mod hub;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{self, Instant};

pub(in crate::h2) use hub::Hub;

use super::call::Call;
use crate::context::Context;

/// The interval of looks for equal watches while some are found, and at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(4);

/// The number of hubs. Each has a log of bounded size.
const HUBS_MAX: usize = 64;

/// What equal watches have in common.
pub(in crate::h2) type WatchKey = Box<[u8]>;

/// The watches of a stream that could be shared, by id.
pub(in crate::h2) type Offer = Vec<(i64, WatchKey)>;

/// The streams of watches, and the hubs.
#[derive(Default)]
pub(crate) struct SharedWatches(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    streams: HashMap<usize, Weak<Call>>,
    hubs: HashMap<WatchKey, Arc<Hub>>,
    /// Streams have been added since the last look.
    added: bool,
    /// The task that looks is running.
    looking: bool,
}

impl SharedWatches {
    /// Adds a stream whose answer has begun.
    pub(in crate::h2) fn add(&self, proxy: &Arc<Context>, call: &Arc<Call>) {
        let mut state = self.0.lock();
        let key = Arc::as_ptr(call) as usize;
        state.streams.insert(key, Arc::downgrade(call));
        state.added = true;
        if !std::mem::replace(&mut state.looking, true) {
            drop(state);
            tokio::spawn(look(Arc::clone(proxy)));
        }
    }

    /// One look. Returns whether any watches are equal; `None`: there are no streams.
    fn look(&self, proxy: &Arc<Context>) -> Option<bool> {
        let mut state = self.0.lock();
        state.streams.retain(|_, call| call.strong_count() != 0);
        if state.streams.is_empty() {
            state.looking = false;
            state.hubs.drain().for_each(|(_, hub)| hub.end());
            return None;
        }
        let added = std::mem::take(&mut state.added);
        let streams: Vec<_> = state.streams.values().filter_map(Weak::upgrade).collect();
        drop(state);
        let now = Instant::now();
        let offers: Vec<_> = streams
            .into_iter()
            .filter_map(|call| Some((call.offer(now)?, call)))
            .collect();
        let hubs = self.hubs(proxy, &offers);
        for (offer, call) in offers {
            let found = offer
                .into_iter()
                .map(|(id, key)| Some((id, Arc::clone(hubs.get(&key)?))));
            if let Some(found) = found.collect::<Option<Vec<_>>>()
                && found.iter().all(|(_, hub)| hub.is_live())
            {
                call.join(found, now);
            }
        }
        Some(added || !hubs.is_empty())
    }

    /// The hubs after a look: those without clients are ended, those for equal watches begun.
    fn hubs(
        &self,
        proxy: &Arc<Context>,
        offers: &[(Offer, Arc<Call>)],
    ) -> HashMap<WatchKey, Arc<Hub>> {
        let mut wanted: HashMap<&WatchKey, (usize, &Arc<Call>)> = HashMap::new();
        for (offer, call) in offers {
            for (_, key) in offer {
                wanted.entry(key).or_insert((0, call)).0 += 1;
            }
        }
        let mut state = self.0.lock();
        state.hubs.retain(|key, hub| {
            let kept = hub.is_open() && (hub.has_clients() || wanted.contains_key(key));
            if !kept {
                hub.end();
            }
            kept
        });
        for (key, (count, call)) in wanted {
            if 1 < count && state.hubs.len() < HUBS_MAX && !state.hubs.contains_key(key) {
                state.hubs.insert(key.clone(), Hub::begin(proxy, call, key));
            }
        }
        state.hubs.clone()
    }
}

/// Looks for equal watches until there are no streams.
async fn look(proxy: Arc<Context>) {
    let mut interval = LOOK_INTERVAL;
    loop {
        time::sleep(interval).await;
        interval = match proxy.shared_watches.look(&proxy) {
            None => return,
            Some(true) => LOOK_INTERVAL,
            Some(false) => (interval * 2).min(LOOK_INTERVAL_MAX),
        };
    }
}
