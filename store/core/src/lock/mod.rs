//! A session's place in the queue of a lock or an election: etcd's `clientv3/concurrency`, as
//! requests and what their answers mean.
//!
//! The queue `name` is the keys below `name/`, in the order of their creation. Each key is a
//! session's: its last part is the session's lease in hex, and it goes with the lease. The session
//! of the first key has the lock, or leads. Each other one waits for the deletion of the key
//! before its own, so that one deletion wakes one session. Then it reads again: the deleted key
//! may be that of a session that only waited, and its own key may be gone.
//!
//! Calls of one session share a key, and each puts it again: its last revision shows which call was
//! the last. A call that its client has given up may delete the key only if no other call can have
//! been answered that it holds the lock or leads:
//! - the call that created the key deletes it if no other call has found it since,
//! - a call that found it deletes it if it was the last, and if an earlier key is in the queue: the
//!   key has never been the first then.
//!
//! etcd deletes the key in any case, and so takes a lock away from the call that was given it.

mod parts;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest,
};

use self::parts::{created_from, modified_at, put_again, range, read, txn};

pub use self::parts::{created_at, delete, put, when};

/// A place in a queue.
#[derive(Clone, Debug)]
pub struct Place {
    name: Bytes,
    key: Bytes,
    lease: i64,
    created: i64,
    /// The revision of the call's last put.
    modified: i64,
    /// The call's first put has created the key.
    is_creator: bool,
}

/// What a read of a place has found.
#[derive(Debug)]
pub enum Turn {
    /// The place is the first; the header is that of the read.
    First(ResponseHeader),
    /// The key is gone, with its lease or otherwise.
    Gone,
    /// There is a place before. The read must be made again after an event of any of these watches,
    /// or their end.
    Behind(Box<[WatchCreateRequest; 2]>),
}

/// The keys of a queue: the first one, and the end of the range.
pub fn keys(name: &[u8]) -> (Bytes, Bytes) {
    let from = [name, b"/"].concat();
    // The byte after '/'.
    let to = [name, b"0"].concat();
    (from.into(), to.into())
}

/// The read of a queue's first key.
pub fn first_key(name: &[u8]) -> RangeRequest {
    let (key, range_end) = keys(name);
    RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// The watch of a key's deletion, from a revision on.
fn deletion(key: Bytes, from: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key,
        start_revision: from,
        filters: vec![FilterType::Noput.into()],
        ..WatchCreateRequest::default()
    }
}

/// A session's key. Go formats a negative number in hex with its sign.
fn key_of(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let id = format!("/{sign}{:x}", lease.unsigned_abs());
    [name, id.as_bytes()].concat().into()
}

impl Place {
    /// A place of the session with that lease, before it is taken.
    pub fn new(name: Bytes, lease: i64) -> Place {
        Place {
            key: key_of(&name, lease),
            name,
            lease,
            created: 0,
            modified: 0,
            is_creator: false,
        }
    }

    /// The session's key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The session's lease.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// The revision of the key's creation; 0 before the place is taken.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// The revision of the call's last put of the key; 0 before the place is taken.
    pub fn modified(&self) -> i64 {
        self.modified
    }

    /// The transaction that creates the key, or puts it again, and reads the queue. A value
    /// replaces that of another call; without one, that remains.
    pub fn take(&self, value: Option<Bytes>) -> TxnRequest {
        let key = || self.key.clone();
        let mut first = first_key(&self.name);
        first.keys_only = true;
        let own = RangeRequest {
            key: key(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let again = match value.clone() {
            Some(value) => put(key(), value, self.lease),
            None => put_again(key()),
        };
        let create = put(key(), value.unwrap_or_default(), self.lease);
        when(
            created_at(key(), 0),
            vec![create, range(first.clone())],
            vec![again, range(own), range(first)],
        )
    }

    /// Takes the answer to [`Place::take`]. Returns its header, and whether the place is the first.
    pub fn taken(&mut self, answer: TxnResponse) -> (ResponseHeader, bool) {
        let header = answer.header.unwrap_or_default();
        let mut reads = answer.responses.into_iter().skip(1).map(read);
        self.modified = header.revision;
        self.is_creator = answer.succeeded;
        self.created = match answer.succeeded {
            true => header.revision,
            false => reads.next().flatten().map_or(0, |own| own.create_revision),
        };
        let first = reads.next().flatten();
        let is_first = first.is_none_or(|first| first.create_revision == self.created);
        (header, is_first)
    }

    /// The read that finds whether the place is the first. It must be linearizable.
    pub fn read(&self) -> RangeRequest {
        let (key, range_end) = keys(&self.name);
        RangeRequest {
            key,
            range_end,
            limit: 2,
            max_create_revision: self.created,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            keys_only: true,
            ..RangeRequest::default()
        }
    }

    /// The meaning of the answer to [`Place::read`].
    pub fn turn(&self, answer: RangeResponse) -> Turn {
        let header = answer.header.unwrap_or_default();
        let mut found = answer.kvs.into_iter();
        // No other key has the same revision: its transaction puts only this one.
        let own = found.next().map(|own| own.create_revision);
        if own != Some(self.created) {
            return Turn::Gone;
        }
        let Some(before) = found.next() else {
            return Turn::First(header);
        };
        let from = header.revision + 1;
        let keys = [before.key, self.key.clone()];
        Turn::Behind(Box::new(keys.map(|key| deletion(key, from))))
    }

    /// The watch of the key's deletion, from a revision on.
    pub fn deletion(&self, from: i64) -> WatchCreateRequest {
        deletion(self.key.clone(), from)
    }

    /// The transaction that replaces the value of the key.
    pub fn replace(&self, value: Bytes) -> TxnRequest {
        let own = RangeRequest {
            key: self.key.clone(),
            keys_only: true,
            ..RangeRequest::default()
        };
        when(
            created_at(self.key.clone(), self.created),
            vec![range(own), put(self.key.clone(), value, self.lease)],
            Vec::new(),
        )
    }

    /// Takes the answer to [`Place::replace`]. Returns whether the place was still there.
    pub fn replaced(&mut self, answer: TxnResponse) -> bool {
        let revision = answer.header.unwrap_or_default().revision;
        let before = answer.responses.into_iter().next().and_then(read);
        // Otherwise another call of the session has found the key, which must remain.
        if before.is_some_and(|own| own.mod_revision == self.modified) {
            self.modified = revision;
        }
        answer.succeeded
    }

    /// The transaction that gives the place up, once it is taken. It deletes the key if that takes
    /// the lock from no other call of the session.
    pub fn give_up(&self) -> TxnRequest {
        let delete = vec![delete(self.key.clone())];
        let delete = match self.is_creator {
            true => delete,
            false => {
                let (from, to) = keys(&self.name);
                let is_first = created_from(from, to, self.created);
                vec![txn(when(is_first, Vec::new(), delete))]
            }
        };
        let unchanged = modified_at(self.key.clone(), self.modified);
        when(unchanged, delete, Vec::new())
    }
}
