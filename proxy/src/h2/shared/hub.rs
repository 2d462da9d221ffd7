//! A watch of the proxy whose responses many clients receive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::WatchKey;
use crate::context::Context;
use crate::grpc::events::{EventReader, Received};
use crate::grpc::requests;
use crate::h2::call::Call;
use crate::h2::owner::ClientSession;
use crate::policy::resumption::{Create, StreamRequest};
use crate::policy::shared_log::{Next, SharedLog, SharedResponse};

/// The log of a hub. A client that is further behind leaves.
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// The hub of equal watches. Its own stream is a call without a client, which is continued on
/// another member like any other.
pub(in crate::h2) struct Hub {
    reader: Mutex<EventReader>,
    /// `None` until the watch is created.
    log: Mutex<Option<SharedLog<Bytes>>>,
    clients: Mutex<HashMap<usize, Weak<Call>>>,
    ended: AtomicBool,
    /// The log has grown, a client has read, or the hub has ended.
    wake: Notify,
}

impl Hub {
    /// Begins the watch with the fields of a client's call.
    pub(super) fn begin(proxy: &Arc<Context>, like: &Arc<Call>, key: &WatchKey) -> Arc<Hub> {
        let hub = Arc::new(Hub {
            reader: Mutex::default(),
            log: Mutex::default(),
            clients: Mutex::default(),
            ended: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let (fields, form) = super::super::call::parts_of_key(key);
        // No stream of this session exists, so nothing is ever written to it.
        let session = Arc::new(ClientSession::new([0, 0]));
        let upstream = Call::of_hub(proxy, &session, like, fields, Arc::downgrade(&hub));
        let mut create = BytesMut::new();
        let request = StreamRequest::Create(Create {
            encoded: form.into(),
            watch_id: 0,
            start_revision: 0,
        });
        requests::put_watch_request(&mut create, &request);
        upstream.begin(false);
        upstream.data(&create, false);
        tokio::spawn(Arc::clone(&hub).run(upstream));
        hub
    }

    /// Sends clients what is new, until the end.
    async fn run(self: Arc<Hub>, upstream: Arc<Call>) {
        while self.is_open() {
            self.wake.notified().await;
            for call in self.clients() {
                call.receive_shared(&self);
                // There may be thousands.
                tokio::task::consume_budget().await;
            }
        }
        for call in self.clients() {
            call.leave_hubs();
        }
        upstream.cancel();
    }

    fn clients(&self) -> Vec<Arc<Call>> {
        let mut clients = self.clients.lock();
        clients.retain(|_, call| call.strong_count() != 0);
        clients.values().filter_map(Weak::upgrade).collect()
    }

    /// A member has sent data.
    pub(in crate::h2) fn receive(&self, data: &[u8]) {
        let mut reader = self.reader.lock();
        reader.receive(data);
        loop {
            match reader.next() {
                Ok(Some(received)) => self.add(received),
                Ok(None) => break,
                Err(_) => {
                    self.end();
                    break;
                }
            }
        }
        self.wake.notify_one();
    }

    fn add(&self, received: Received) {
        let mut log = self.log.lock();
        let response = &received.response;
        match &mut *log {
            // Refused, or compacted: its clients receive the reason from their own watches.
            _ if response.canceled => self.end(),
            None if response.created => {
                *log = Some(SharedLog::new(response.header.revision, LOG_BYTES_MAX));
            }
            Some(log) if !response.created => log.push(received.shared, received.bytes),
            _ => self.end(),
        }
    }

    /// The hub's clients leave.
    pub(in crate::h2) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Whether the watch is created, and clients may join.
    pub(super) fn is_live(&self) -> bool {
        self.is_open() && self.log.lock().is_some()
    }

    pub(super) fn has_clients(&self) -> bool {
        let clients = self.clients.lock();
        clients.values().any(|call| call.strong_count() != 0)
    }

    /// The cursor of a client that has all events before `next`, if the hub has the others.
    pub(in crate::h2) fn cursor(&self, next: i64) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        self.log.lock().as_ref()?.cursor(next)
    }

    /// What a client receives next.
    pub(in crate::h2) fn take(&self, cursor: &mut u64, next: i64) -> Next<SharedResponse<Bytes>> {
        match &*self.log.lock() {
            Some(log) if self.is_open() => log.take(cursor, next),
            _ => Next::Gone,
        }
    }

    /// A client joins.
    pub(in crate::h2) fn add_client(&self, call: &Arc<Call>) {
        let key = Arc::as_ptr(call) as usize;
        self.clients.lock().insert(key, Arc::downgrade(call));
        self.wake();
    }

    /// A client leaves.
    pub(in crate::h2) fn remove_client(&self, call: &Arc<Call>) {
        let key = Arc::as_ptr(call) as usize;
        self.clients.lock().remove(&key);
    }

    /// A client has room for more.
    pub(in crate::h2) fn wake(&self) {
        self.wake.notify_one();
    }
}
