//! The look for equal watches, and the hubs that are begun and ended after it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::time::{self, Instant};

use super::{Call, Context, Hub, Offer, Registry, SharedWatches, WatchKey};

/// The interval of looks for equal watches while some are found, and at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(4);

/// The number of hubs. Each has a log of bounded size.
const HUBS_MAX: usize = 64;

/// The pause after a hub that no stream has moved to or with large responses, and the number of
/// such pauses.
const UNUSABLE_PAUSE: Duration = Duration::from_secs(60);
const PAUSES_MAX: usize = 1024;

/// Watches that could share a hub.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    count: usize,
    /// One of them.
    call: &'a Arc<Call>,
    id: i64,
}

/// Looks for equal watches until there are no streams.
pub(super) async fn run(proxy: Arc<Context>) {
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

impl SharedWatches {
    /// One look. Returns whether any watches are equal; `None`: there are no streams.
    fn look(&self, proxy: &Arc<Context>) -> Option<bool> {
        let mut state = self.registry.lock();
        state.streams.retain(|_, call| call.strong_count() != 0);
        if state.streams.is_empty() {
            state.looking = false;
            state.hubs.drain().for_each(|(_, hub)| hub.end());
            return None;
        }
        let added = std::mem::take(&mut state.added);
        let streams: Vec<_> = state
            .streams
            .values()
            .filter_map(|one| one.upgrade())
            .collect();
        drop(state);
        let now = Instant::now();
        let offers: Vec<_> = streams
            .into_iter()
            .filter_map(|call| Some((call.offer(&self.keys, now)?, call)))
            .collect();
        let hubs = self.hubs(proxy, &offers, now);
        for (offer, call) in offers {
            let found = offer.into_iter().map(|(id, key)| {
                let hub = hubs.get(&key).filter(|hub| hub.is_live())?;
                Some((id, Arc::clone(hub)))
            });
            if let Some(found) = found.collect::<Option<Vec<_>>>() {
                call.join(found, now);
            }
        }
        Some(added || !hubs.is_empty())
    }

    /// The hubs after a look: those that have ended are removed, those for equal watches begun. A
    /// hub without clients ends itself: streams may be on their way to it.
    fn hubs(
        &self,
        proxy: &Arc<Context>,
        offers: &[(Offer, Arc<Call>)],
        now: Instant,
    ) -> HashMap<WatchKey, Arc<Hub>> {
        let mut wanted: HashMap<WatchKey, Wanted<'_>> = HashMap::new();
        for (offer, call) in offers {
            for (id, key) in offer {
                let (count, id) = (0, *id);
                wanted
                    .entry(*key)
                    .or_insert(Wanted { count, call, id })
                    .count += 1;
            }
        }
        let mut state = self.registry.lock();
        state.remove_ended(now);
        let begins = state.admit(&wanted);
        // A call that is being answered adds itself to the registry.
        let begun = MutexGuard::unlocked(&mut state, || {
            let begun = begins.into_iter().filter_map(|(key, one)| {
                let watch = one.call.shared_watch(one.id)?;
                Some((key, Hub::begin(proxy, one.call, watch)))
            });
            begun.collect::<Vec<_>>()
        });
        state.hubs.extend(begun);
        state.hubs.clone()
    }
}

impl Registry {
    /// Removes the hubs that have ended.
    fn remove_ended(&mut self, now: Instant) {
        let pauses = &mut self.pauses;
        pauses.retain(|_, until| now < *until);
        self.hubs.retain(|key, hub| {
            let unusable = !hub.is_open() && hub.was_unusable();
            if unusable && pauses.len() < PAUSES_MAX {
                pauses.insert(*key, now + UNUSABLE_PAUSE);
            }
            hub.is_open()
        });
    }

    /// The watches that get a hub now: the most frequent ones for which there is a place.
    fn admit<'a>(&mut self, wanted: &HashMap<WatchKey, Wanted<'a>>) -> Vec<(WatchKey, Wanted<'a>)> {
        let missing = wanted.iter().filter(|(key, one)| {
            1 < one.count && !self.hubs.contains_key(key) && !self.pauses.contains_key(key)
        });
        let mut missing: Vec<_> = missing.map(|(key, one)| (*key, *one)).collect();
        missing.sort_by_key(|(_, one)| Reverse(one.count));
        let lacking = (self.hubs.len() + missing.len()).saturating_sub(HUBS_MAX);
        // A hub of one watch saves its member nothing.
        let spare = self
            .hubs
            .extract_if(|_, hub| hub.was_joined() && hub.watches() <= 1);
        spare.take(lacking).for_each(|(_, hub)| hub.end());
        missing.truncate(HUBS_MAX.saturating_sub(self.hubs.len()));
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::hub::tests::{call, hub};
    use super::*;

    fn wanted(call: &Arc<Call>, count: usize) -> Wanted<'_> {
        Wanted { count, call, id: 0 }
    }

    #[test]
    fn the_most_frequent_watches_take_the_places_of_hubs_that_serve_one() {
        let call = call();
        let mut registry = Registry::default();
        for key in 0..HUBS_MAX as u64 {
            registry.hubs.insert(key, hub());
        }
        let all = HashMap::from([100, 101, 102].map(|key| (key, wanted(&call, key as usize))));
        // A stream may move to them yet.
        assert!(registry.admit(&all).is_empty());
        for (key, hub) in &registry.hubs {
            assert!(hub.add_client(&call, if *key < 2 { 1 } else { 2 }));
        }
        let ending = [0, 1].map(|key| Arc::clone(&registry.hubs[&key]));
        let admitted: Vec<_> = registry.admit(&all).iter().map(|(key, _)| *key).collect();
        assert_eq!(admitted, [102, 101]);
        assert!(ending.iter().all(|hub| !hub.is_open()));
    }

    #[test]
    fn a_hub_that_could_not_be_used_is_not_begun_again_at_once() {
        let call = call();
        let mut registry = Registry::default();
        let [unused, left] = [hub(), hub()];
        assert!(left.add_client(&call, 2));
        registry
            .hubs
            .extend([(1, Arc::clone(&unused)), (2, Arc::clone(&left))]);
        let all = HashMap::from([1, 2].map(|key| (key, wanted(&call, 2))));
        let now = Instant::now();
        registry.remove_ended(now);
        assert_eq!(registry.hubs.len(), 2);
        unused.end();
        left.end();
        registry.remove_ended(now);
        let admitted: Vec<_> = registry.admit(&all).iter().map(|(key, _)| *key).collect();
        assert_eq!(admitted, [2]);
        registry.remove_ended(now + UNUSABLE_PAUSE);
        assert_eq!(registry.admit(&all).len(), 2);
    }
}
