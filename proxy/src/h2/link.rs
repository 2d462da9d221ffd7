//! The connections to a member: those of all clients, and those of clients beyond their share.
//!
//! A connection that bears no new calls ends with the ones that it has, and a watch may last for days.
//! So these are bounded as well: beyond the bound the oldest is cut, and its calls end or go elsewhere
//! as if the member had closed it. Each connection has a place among the process's descriptors.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use super::member;
use super::session::Session;
use crate::context::Context;
use crate::http1::exchange::Failure;
use crate::policy::endpoint::Endpoint;
use crate::sockets::{Http2Permit, Sockets};

/// Clients that have gone beyond their share and have connections of their own, at a time; the others
/// use those of all.
const OWN_MAX: usize = 16;

/// Connections that are for the same clients, at a time: for those of all, and for one's own.
const SHARED_LANES_MAX: usize = 16;
const OWN_LANES_MAX: usize = 4;

/// The same, of those that bear no new calls.
const RETIRED_LANES_MAX: usize = 4;

/// After a connection found no descriptor, the next one is tried.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Connected when first needed, and again when the connection has ended or bears no more calls.
#[derive(Default)]
pub(crate) struct Link {
    lanes: Mutex<Lanes>,
    /// One at a time; when there was no descriptor for one.
    connecting: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Lanes {
    open: Vec<Lane>,
    /// Those that bear no new calls; the oldest first.
    retired: Vec<Lane>,
}

/// A connection, and whose calls go by it.
struct Lane {
    /// `None`: all clients' that have none of their own.
    of: Option<u64>,
    session: Arc<Session>,
    /// Ends it at once. Dropped, it does nothing.
    cut: oneshot::Sender<()>,
}

/// How a call gets to the member.
enum Way {
    By(Arc<Session>),
    /// By a new connection, whose calls these are.
    New(Option<u64>, Http2Permit),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Link {
    /// The connection of all clients, or of one that has its own, if there is one for new calls.
    pub(super) fn open(&self, of: Option<u64>) -> Option<Arc<Session>> {
        self.lanes.lock().with_place(of)
    }

    /// The connection, which is made when there is none. Many may wait for the same attempt, and none
    /// longer than one attempt may take.
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

    /// A client that may have had connections of its own has left.
    pub(super) fn leave(&self, of: u64) {
        self.lanes.lock().retire(|lane| {
            let leaves = lane.of == Some(of);
            if leaves {
                lane.session.close_gently();
            }
            leaves
        });
    }

    /// Ends them; calls in flight end as they may.
    pub(crate) fn close(&self) {
        let lanes = std::mem::take(&mut *self.lanes.lock());
        for lane in lanes.open {
            lane.session.close_gently();
        }
    }
}

/// There is no descriptor for one more connection.
fn crowded() -> Failure {
    Failure::Crowded(std::io::ErrorKind::QuotaExceeded.into())
}

impl Lanes {
    /// The way for a client's calls; `None`: there is no place for a connection.
    fn way(&mut self, of: Option<u64>, sockets: &'static Sockets) -> Option<Way> {
        let of = of.filter(|of| self.may_have_own(*of));
        if let Some(session) = self.with_place(of) {
            return Some(Way::By(session));
        }
        self.retire(|lane| {
            // One of a client that has left in between; another client's is made again.
            if lane.of.is_some() && lane.session.streams() == 0 {
                lane.session.close_gently();
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
        // One that takes no calls for now.
        if let Some(last) = fitting().next_back() {
            return Some(Way::By(Arc::clone(&last.session)));
        }
        of.and_then(|_| self.way(None, sockets))
    }

    fn with_place(&self, of: Option<u64>) -> Option<Arc<Session>> {
        let mut fitting = self.open.iter().filter(|lane| lane.of == of);
        let lane = fitting.find(|lane| lane.session.has_place())?;
        Some(Arc::clone(&lane.session))
    }

    /// Whether a client may have connections of its own.
    fn may_have_own(&self, of: u64) -> bool {
        let clients: HashSet<u64> = self.open.iter().filter_map(|lane| lane.of).collect();
        clients.contains(&of) || clients.len() < OWN_MAX
    }

    /// Takes out those that bear no new calls. Of those of the same clients the oldest are cut beyond the
    /// bound.
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
