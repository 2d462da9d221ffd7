//! The load: clients that put one key, and a linearizable and a serializable reader at each member.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::task::LocalSet;

use super::plan::Plan;
use crate::cluster::wire::{self, Kv};
use crate::histogram::Histogram;
use crate::tally::Window;

/// Bytes of a value.
const VALUE_BYTES: usize = 64;

/// The latencies of one disk of one server.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Linearizable ranges at the leader.
    pub at_leader: Histogram,
    /// Linearizable ranges at followers.
    pub at_followers: Histogram,
    /// Serializable ranges at all members.
    pub serializable: Histogram,
    /// Puts.
    pub puts: Histogram,
    /// Requests that failed.
    pub failed: u64,
}

impl Outcome {
    /// Adds another round.
    pub fn merge(&mut self, other: &Outcome) {
        self.at_leader.merge(&other.at_leader);
        self.at_followers.merge(&other.at_followers);
        self.serializable.merge(&other.serializable);
        self.puts.merge(&other.puts);
        self.failed += other.failed;
    }

    fn of(&mut self, call: Call) -> &mut Histogram {
        match call {
            Call::Put => &mut self.puts,
            Call::Serializable => &mut self.serializable,
            Call::AtLeader => &mut self.at_leader,
            Call::AtFollower => &mut self.at_followers,
        }
    }
}

/// What a client does over and over.
#[derive(Clone, Copy, Debug)]
enum Call {
    Put,
    Serializable,
    AtLeader,
    AtFollower,
}

/// Runs the load on this thread until the window closes.
///
/// # Errors
/// A member does not accept a connection.
pub fn run(plan: &Plan, urls: &[String], leader: usize, window: Window) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(drive(plan, urls, leader, window)))
}

async fn drive(plan: &Plan, urls: &[String], leader: usize, window: Window) -> Result<Outcome> {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let mut calls: Vec<(&String, Call)> = Vec::new();
    calls.extend((0..plan.clients).map(|number| (&urls[number % urls.len()], Call::Put)));
    for (member, url) in urls.iter().enumerate() {
        calls.push((url, Call::Serializable));
        calls.push(match member == leader {
            true => (url, Call::AtLeader),
            false => (url, Call::AtFollower),
        });
    }
    let mut clients = Vec::new();
    for (url, call) in calls {
        let (kv, outcome) = (wire::connect(url).await?, Rc::clone(&outcome));
        let pause = Duration::from_millis(match call {
            Call::Put => plan.put_pause_ms,
            _ => plan.range_pause_ms,
        });
        clients.push(tokio::task::spawn_local(client(
            kv, call, pause, window, outcome,
        )));
    }
    for client in clients {
        client.await?;
    }
    Ok(outcome.take())
}

async fn client(
    mut kv: Kv,
    call: Call,
    pause: Duration,
    window: Window,
    outcome: Rc<RefCell<Outcome>>,
) {
    let key = Bytes::from_static(b"bench");
    while Instant::now() < window.to {
        let (begin, key) = (Instant::now(), key.clone());
        let answer = match call {
            Call::Put => {
                let value = Bytes::from_static(&[b'v'; VALUE_BYTES]);
                let (key, value) = (key, value);
                let put = PutRequest {
                    key,
                    value,
                    ..PutRequest::default()
                };
                kv.put(put).await.map(drop)
            }
            Call::Serializable | Call::AtLeader | Call::AtFollower => {
                let serializable = matches!(call, Call::Serializable);
                let range = RangeRequest {
                    key,
                    serializable,
                    ..RangeRequest::default()
                };
                kv.range(range).await.map(drop)
            }
        };
        let end = Instant::now();
        // What ends after the window counts as well: the slowest are among these.
        if window.from <= end {
            let mut outcome = outcome.borrow_mut();
            match answer {
                Ok(()) => outcome.of(call).record(end - begin),
                Err(_) => outcome.failed += 1,
            }
        }
        tokio::time::sleep(pause).await;
    }
}
