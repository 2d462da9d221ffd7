//! The load: closed-loop clients on threads of their own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Uri;
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::task::LocalSet;
use tonic::Status;

use super::lease::{self, Renewals};
use super::plan::Op;
use super::wire::{self, Kv, Wire};
use crate::tally::{Tally, Window};

/// How long a client waits after an error, so that a dead server is not hammered.
const BACKOFF: Duration = Duration::from_millis(10);

/// The key that is read.
pub const READ_KEY: &[u8] = b"read-key";

/// The key that a put of this number writes.
pub fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// The size of a load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Clients, one request each in flight.
    pub clients: usize,
    /// Connections that they share.
    pub connections: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Distinct keys that puts write, in order, over and over.
    pub keys: u64,
    /// Threads that make the load.
    pub threads: usize,
}

/// One thread's share of the load.
#[derive(Debug)]
pub struct Share {
    op: Op,
    value: Bytes,
    keys: u64,
    clients: usize,
    urls: Vec<String>,
    next_key: Arc<AtomicU64>,
}

impl Share {
    /// Cuts the operation's load into at most `shape.threads` shares.
    pub fn cut(op: Op, shape: Shape, urls: &[String], next_key: &Arc<AtomicU64>) -> Vec<Share> {
        let threads = shape.threads.clamp(1, shape.clients);
        let share = |thread| Share {
            op,
            value: Bytes::from(vec![b'v'; shape.value_bytes]),
            keys: shape.keys,
            clients: (thread..shape.clients).step_by(threads).count(),
            urls: (thread..shape.connections)
                .step_by(threads)
                .map(|connection| urls[connection % urls.len()].clone())
                .collect(),
            next_key: Arc::clone(next_key),
        };
        (0..threads)
            .map(share)
            .filter(|share| !share.urls.is_empty())
            .collect()
    }

    /// Runs the share on this thread until the window closes.
    ///
    /// # Errors
    /// A member does not accept the connections.
    pub fn run(self, window: Window) -> Result<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tasks = LocalSet::new();
        runtime.block_on(tasks.run_until(self.drive(window)))
    }

    async fn drive(self, window: Window) -> Result<Tally> {
        let mut connections = Vec::new();
        for url in &self.urls {
            let origin: Uri = url.parse()?;
            connections.push((wire::open(url).await?, origin));
        }
        let tally = Rc::new(RefCell::new(Tally::default()));
        let share = Rc::new(self);
        let clients: Vec<_> = (0..share.clients)
            .map(|number| {
                let own = own_connections(&connections, number, share.clients);
                let (share, tally) = (Rc::clone(&share), Rc::clone(&tally));
                tokio::task::spawn_local(async move {
                    match share.op {
                        Op::KeepAlive => renew(own, window, tally).await,
                        _ => put_or_get(share, own, window, tally).await,
                    }
                })
            })
            .collect();
        for client in clients {
            client.await??;
        }
        Ok(tally.take())
    }

    /// Makes one request.
    async fn request(&self, kv: &mut Kv, lease: i64) -> Result<(), Status> {
        match self.op {
            Op::Put | Op::Put1 | Op::PutLease => {
                let number = self.next_key.fetch_add(1, Ordering::Relaxed) % self.keys;
                let put = PutRequest {
                    key: key(number),
                    value: self.value.clone(),
                    lease,
                    ..Default::default()
                };
                kv.put(put).await.map(drop)
            }
            Op::RangeL | Op::RangeS | Op::KeepAlive => {
                let range = RangeRequest {
                    key: Bytes::from_static(READ_KEY),
                    serializable: self.op == Op::RangeS,
                    ..Default::default()
                };
                kv.range(range).await.map(drop)
            }
        }
    }
}

/// A connection, and the URL of its member.
type Opened = (Wire, Uri);

/// Which connections a client uses: its share of them when there are more than clients, else one.
fn own_connections(connections: &[Opened], client: usize, clients: usize) -> Vec<Opened> {
    if clients >= connections.len() {
        return vec![connections[client % connections.len()].clone()];
    }
    connections
        .iter()
        .skip(client)
        .step_by(clients)
        .cloned()
        .collect()
}

/// Renews a lease, again and again.
async fn renew(own: Vec<Opened>, window: Window, tally: Rc<RefCell<Tally>>) -> Result<()> {
    let (wire, origin) = own
        .into_iter()
        .next()
        .context("a client without a connection")?;
    let mut renewals = Renewals::open(wire, origin).await?;
    loop {
        let latency = renewals.renew().await?;
        let end = Instant::now();
        if end >= window.to {
            return Ok(());
        }
        if end >= window.from {
            tally.borrow_mut().latencies.record(latency);
        }
    }
}

async fn put_or_get(
    share: Rc<Share>,
    own: Vec<Opened>,
    window: Window,
    tally: Rc<RefCell<Tally>>,
) -> Result<()> {
    let lease = match (share.op, own.first().cloned()) {
        (Op::PutLease, Some((wire, origin))) => lease::grant(wire, origin).await?,
        _ => 0,
    };
    let connections = own.into_iter();
    let connections = connections.map(|(wire, origin)| Kv::with_origin(wire, origin));
    run_client(share, connections.collect(), lease, window, tally).await;
    Ok(())
}

async fn run_client(
    share: Rc<Share>,
    mut connections: Vec<Kv>,
    lease: i64,
    window: Window,
    tally: Rc<RefCell<Tally>>,
) {
    let count = connections.len();
    let mut begin = Instant::now();
    for turn in 0_usize.. {
        let outcome = share.request(&mut connections[turn % count], lease).await;
        let end = Instant::now();
        if end >= window.to {
            return;
        }
        if end >= window.from {
            match &outcome {
                Ok(()) => tally.borrow_mut().latencies.record(end - begin),
                Err(status) => {
                    let reason = format!("{:?}: {}", status.code(), status.message());
                    tally.borrow_mut().fail(reason);
                }
            }
        }
        if outcome.is_err() {
            tokio::time::sleep(BACKOFF).await;
        }
        begin = if outcome.is_err() {
            Instant::now()
        } else {
            end
        };
    }
}
