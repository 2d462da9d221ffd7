//! Streams of the v3 API that outlive their member: watches and keepalives.
//!
//! For each stream the proxy keeps what another member needs to continue it: the position of each
//! watch, and the requests without a response. When the member fails, the stream is opened again
//! on another one with these requests, and responses that the client has already are dropped. The
//! result is either exact, as if one member had served the stream, or the stream ends, and etcd's
//! clients begin it again. Nothing here depends on how messages are encoded.

mod keepalive;
mod watch;

pub(crate) use keepalive::KeepAlives;
pub(crate) use watch::{Create, StreamRequest, StreamResponse, WatchPositions};

/// The header of a response; 0 where a field is missing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct ResponseHeader {
    pub(crate) cluster_id: u64,
    /// It differs between members.
    pub(crate) member_id: u64,
    pub(crate) revision: i64,
    pub(crate) raft_term: u64,
}

/// What is done with a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Forward,
    /// The client has had its equal from an earlier member.
    Drop,
    /// The new member is behind what the client has received: the stream moves on.
    Lagging,
    /// The stream cannot be continued exactly, and ends.
    Inexact,
}

/// The newest state that the client of a stream has received, and the state that a new member
/// must have reached.
#[derive(Default)]
struct Progress {
    newest: ResponseHeader,
    /// `newest` at the time of the latest resumption.
    floor: ResponseHeader,
}

impl Progress {
    /// Compares a response that states its member's current revision and term with those that the
    /// client has received from earlier members.
    fn check(&self, header: &ResponseHeader) -> Verdict {
        let floor = &self.floor;
        if floor.cluster_id != 0 && header.cluster_id != 0 && floor.cluster_id != header.cluster_id
        {
            return Verdict::Inexact;
        }
        match header.revision < floor.revision || header.raft_term < floor.raft_term {
            true => Verdict::Lagging,
            false => Verdict::Forward,
        }
    }

    fn observe(&mut self, header: &ResponseHeader) {
        let newest = &mut self.newest;
        newest.revision = newest.revision.max(header.revision);
        newest.raft_term = newest.raft_term.max(header.raft_term);
        if newest.cluster_id == 0 {
            newest.cluster_id = header.cluster_id;
        }
    }

    fn resume(&mut self) {
        self.floor = self.newest;
    }
}
