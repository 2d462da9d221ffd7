//! The owners of streams: calls and other requests.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use keelson_port::http2::{self, Role};
use tokio::time::Instant;

use super::call::Call;
use super::other::HttpRequest;
use super::quota::ClientQuota;

/// The owner of a stream.
#[derive(Clone)]
pub(super) enum Owner {
    /// The client's stream of a call.
    Client(Arc<Call>),
    /// The member's stream of a call.
    Member(Arc<Call>),
    /// The client's stream of another request.
    Http(Arc<HttpRequest>),
}

impl http2::Owner for Owner {
    fn sent(&self, bytes: usize) {
        match self {
            Owner::Client(call) => call.reached_client(bytes),
            Owner::Member(call) => call.reached_member(bytes),
            Owner::Http(request) => request.has_room(),
        }
    }

    fn account(&self) -> usize {
        match self {
            Owner::Member(call) => call.client(),
            Owner::Client(_) | Owner::Http(_) => 0,
        }
    }

    fn uses_much(&self) {
        if let Owner::Member(call) = self {
            call.leave_shared();
        }
    }

    fn deadline(&self, half_closed_remote: bool) -> Option<Instant> {
        match self {
            Owner::Client(call) => call.due(half_closed_remote),
            Owner::Member(_) | Owner::Http(_) => None,
        }
    }
}

/// The session of a connection.
pub(crate) type Session = http2::Session<Owner>;

/// The session of a client's connection, and the client's use of the members' connections.
pub(super) struct ClientSession {
    session: Session,
    pub(super) quota: ClientQuota,
}

impl ClientSession {
    /// `windows`: the receive windows, of a stream and of the connection.
    pub(super) fn new(windows: [u32; 2]) -> ClientSession {
        ClientSession {
            session: Session::new(Role::Server, windows, Bytes::new()),
            quota: ClientQuota::default(),
        }
    }
}

impl Deref for ClientSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}
