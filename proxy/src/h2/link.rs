//! The connections to a member: a shared lane for all clients, and a lane for each client beyond
//! its quota.
//!
//! A retired connection takes no new calls and ends with its last one; a watch may last for days.
//! Retired connections are bounded: beyond the bound the oldest is cut, and its calls end or are
//! repeated as if the member had closed it. Each connection takes a slot of the process's
//! descriptors.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use super::member;
use super::owner::Session;
use crate::context::Context;
use crate::http1::exchange::Failure;
use crate::policy::endpoint::Endpoint;
use crate::sockets::{Http2Permit, Sockets};

/// The number of clients with lanes of their own. Further clients use the shared lane.
const OWN_MAX: usize = 16;

/// The number of connections of the shared lane, and of a client's lane.
const SHARED_LANES_MAX: usize = 16;
const OWN_LANES_MAX: usize = 4;

/// The number of retired connections of one lane.
const RETIRED_LANES_MAX: usize = 4;

/// The pause after a connection failed for lack of a descriptor.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Connects on first use, and again when a connection has ended or is retired.
#[derive(Default)]
pub(crate) struct Link {
    lanes: Mutex<Lanes>,
    /// Held while connecting. The time of the last failure for lack of a descriptor.
    connecting: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Lanes {
    open: Vec<Lane>,
    /// The retired connections, the oldest first.
    retired: Vec<Lane>,
}

/// A connection and the client that uses it.
struct Lane {
    /// `None`: the shared lane.
    of: Option<u64>,
    session: Arc<Session>,
    /// Cuts the connection. Dropping it has no effect.
    cut: oneshot::Sender<()>,
}

/// The connection for a call.
enum Way {
    By(Arc<Session>),
    /// A new connection of this lane.
    New(Option<u64>, Http2Permit),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Link {
    /// An open connection of a lane that takes new calls.
    pub(super) fn open(&self, of: Option<u64>) -> Option<Arc<Session>> {
        self.lanes.lock().with_place(of)
    }

    /// A connection of a lane, made if there is none. Many calls may wait for the same attempt,
    /// each no longer than `dial_timeout`.
    pub(super) async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        proxy: &Context,
        of: Option<u64>,
    ) -> Result<Arc<Session>, Failure> {
        let connecting = self.connect_once(endpoint, proxy, of);
        let connected = time::timeout(proxy.config.dial_timeout, connecting).await;
        connected.unwrap_or_else(|late| Err(Failure::Unsent(late.into())))
    }

    async fn connect_once(
        &self,
        endpoint: &Arc<Endpoint>,
        proxy: &Context,
        of: Option<u64>,
    ) -> Result<Arc<Session>, Failure> {
        let mut short = self.connecting.lock().await;
        let way = self.lanes.lock().way(of, proxy.sockets);
        let (of, place) = match way {
            Some(Way::By(session)) => return Ok(session),
            Some(Way::New(of, place)) => (of, place),
            None => return Err(crowded()),
        };
        if short.is_some_and(|since| since.elapsed() < SHORTAGE) {
            return Err(crowded());
        }
        let socket = member::socket(&endpoint.address, proxy.config.dial_timeout).await;
        let socket = socket.map_err(Failure::of_connecting);
        let is_short = matches!(socket, Err(Failure::Crowded(_)));
        *short = is_short.then(Instant::now);
        let socket = socket?;
        endpoint.note_reached();
        let session = Arc::new(member::session(&endpoint.address));
        let (cut, is_cut) = oneshot::channel();
        member::spawn(endpoint, &session, socket, (place, is_cut));
        self.lanes.lock().open.push(Lane {
            of,
            session: Arc::clone(&session),
            cut,
        });
        Ok(session)
    }

    /// Retires the lane of a client that has disconnected.
    pub(super) fn leave(&self, of: u64) {
        self.lanes.lock().retire(|lane| {
            let leaves = lane.of == Some(of);
            if leaves {
                lane.session.shut_down();
            }
            leaves
        });
    }

    /// Shuts the connections down. Calls in flight go on.
    pub(crate) fn close(&self) {
        let lanes = std::mem::take(&mut *self.lanes.lock());
        for lane in lanes.open {
            lane.session.shut_down();
        }
    }
}

/// The failure for lack of a descriptor.
fn crowded() -> Failure {
    Failure::Crowded(std::io::ErrorKind::QuotaExceeded.into())
}

impl Lanes {
    /// The connection for a client's calls; `None`: there is no descriptor for one.
    fn way(&mut self, of: Option<u64>, sockets: &'static Sockets) -> Option<Way> {
        let of = of.filter(|of| self.may_have_own(*of));
        if let Some(session) = self.with_place(of) {
            return Some(Way::By(session));
        }
        self.retire(|lane| {
            // The lane of a client that has left in the meantime; another client's is made again.
            if lane.of.is_some() && lane.session.streams() == 0 {
                lane.session.shut_down();
            }
            lane.session.retire()
        });
        let bound = if of.is_none() {
            SHARED_LANES_MAX
        } else {
            OWN_LANES_MAX
        };
        let fitting = || self.open.iter().filter(|lane| lane.of == of);
        if fitting().count() < bound
            && let Some(place) = sockets.http2_permit(of.is_some())
        {
            return Some(Way::New(of, place));
        }
        // A connection that takes no calls for now.
        if let Some(last) = fitting().next_back() {
            return Some(Way::By(Arc::clone(&last.session)));
        }
        of.and_then(|_| self.way(None, sockets))
    }

    fn with_place(&self, of: Option<u64>) -> Option<Arc<Session>> {
        let mut fitting = self.open.iter().filter(|lane| lane.of == of);
        let lane = fitting.find(|lane| lane.session.has_free_stream())?;
        Some(Arc::clone(&lane.session))
    }

    /// Whether a client may have a lane of its own.
    fn may_have_own(&self, of: u64) -> bool {
        let clients: HashSet<u64> = self.open.iter().filter_map(|lane| lane.of).collect();
        clients.contains(&of) || clients.len() < OWN_MAX
    }

    /// Retires connections. Beyond the bound of a lane, the oldest retired ones are cut.
    fn retire(&mut self, retires: impl Fn(&Lane) -> bool) {
        let retired = self.open.extract_if(.., |lane| retires(lane));
        self.retired.extend(retired);
        self.retired.retain(|lane| !lane.session.is_over());
        let mut kept: Vec<Lane> = vec![];
        for lane in std::mem::take(&mut self.retired).into_iter().rev() {
            let newer = kept.iter().filter(|newer| newer.of == lane.of).count();
            match newer < RETIRED_LANES_MAX {
                true => kept.push(lane),
                false => drop(lane.cut.send(())),
            }
        }
        kept.reverse();
        self.retired = kept;
    }
}

#[cfg(test)]
mod tests;
