//! Watches that clients share: several equal ones cost the member one.
//!
//! Each stream of watches begins on a member. From time to time the proxy looks for watches that
//! are equal: the same range and options, and the same fields, without a token. For
//! these it begins a watch of its own, the hub, and moves the streams to it whose watches are all
//! shared. A stream moves at a revision from which the hub has all events, and leaves the hub when
//! its client sends a request, does not keep up, or the hub fails. Leaving is the same as the
//! failure of a member: the stream is continued on a member at its own position.

mod hub;
mod look;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(in crate::h2) use hub::Hub;
#[cfg(test)]
pub(in crate::h2) use hub::tests as tests_of_hub;

use super::call::Call;
use crate::context::Context;

/// A hash of what equal watches have in common. Whether two are equal is decided by `SharedWatch`.
pub(in crate::h2) type WatchKey = u64;

/// The watches of a stream that could be shared, by id.
pub(in crate::h2) type Offer = Vec<(i64, WatchKey)>;

/// What equal watches have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::h2) struct SharedWatch {
    /// The fields of the call.
    pub(in crate::h2) fields: Bytes,
    /// The request without its revision and id.
    pub(in crate::h2) form: Bytes,
}

/// The streams of watches, and the hubs.
#[derive(Default)]
pub(crate) struct SharedWatches {
    registry: Mutex<Registry>,
    keys: RandomState,
}

#[derive(Default)]
struct Registry {
    streams: HashMap<usize, Weak<Call>>,
    hubs: HashMap<WatchKey, Arc<Hub>>,
    /// Watches whose hub could not be used get no other one until then.
    pauses: HashMap<WatchKey, Instant>,
    /// Streams have been added since the last look.
    added: bool,
    /// The task that looks is running.
    looking: bool,
}

/// What is shared at the moment.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Sharing {
    /// The number of watches of the proxy itself.
    pub(crate) hubs: usize,
    /// The number of clients' watches beyond the first of each hub.
    pub(crate) coalesced: usize,
}

impl SharedWatches {
    /// Adds a stream whose answer has begun.
    pub(in crate::h2) fn add(&self, proxy: &Arc<Context>, call: &Arc<Call>) {
        let mut state = self.registry.lock();
        let key = Arc::as_ptr(call) as usize;
        state.streams.insert(key, Arc::downgrade(call));
        state.added = true;
        if !std::mem::replace(&mut state.looking, true) {
            drop(state);
            tokio::spawn(look::run(Arc::clone(proxy)));
        }
    }

    /// What is shared now.
    pub(crate) fn sharing(&self) -> Sharing {
        let state = self.registry.lock();
        let open = state.hubs.values().filter(|hub| hub.is_open());
        open.fold(Sharing::default(), |sum, hub| Sharing {
            hubs: sum.hubs + 1,
            coalesced: sum.coalesced + hub.watches().saturating_sub(1),
        })
    }
}
