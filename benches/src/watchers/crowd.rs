//! The watchers: a connection each, all on one thread.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::http::{Item, Request};

use super::outcome::Delivery;
use crate::http1::connection::Connection;
use crate::http1::crowd::Crowd;
use crate::http1::host;
/// The directory that all watch.
const DIRECTORY: &str = "/v2/keys/dir";

/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches that are sent before the server's answers are waited for: less than what a server that
/// is busy lets queue up at its port.
const BATCH: usize = 100;

/// Where a watcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The watch is sent.
    Sent,
    /// The server has answered with a head: it watches.
    Watching,
    /// The event is here.
    Notified,
}

/// All watchers of one server, and the connection that sets keys.
pub struct Watchers {
    crowd: Crowd,
    states: Vec<State>,
    host: String,
    stream: bool,
    setter: Connection,
}

impl Watchers {
    /// Makes the directory; there are no watchers yet.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn new(url: &str, stream: bool) -> Result<Watchers> {
        let host = host(url)?;
        let mut setter = Connection::open(host)?;
        let make = Request::put(DIRECTORY, "dir=true").encode(host);
        let (status, _) = setter.exchange(&make)?;
        ensure!(status == 201, "the directory: HTTP {status}");
        Ok(Watchers {
            crowd: Crowd::new()?,
            states: Vec::new(),
            host: host.to_string(),
            stream,
            setter,
        })
    }

    /// Opens `count` watches and waits until the server has answered each with a head.
    ///
    /// # Errors
    /// The server does not accept or does not answer them all.
    pub fn open(&mut self, count: usize, mut tell: impl FnMut(usize)) -> Result<()> {
        let request = self.watch(None);
        while self.crowd.len() < count {
            for _ in 0..BATCH.min(count - self.crowd.len()) {
                let number = self.crowd.open(&self.host)?;
                self.crowd.at(number).send(&request)?;
                self.states.push(State::Sent);
            }
            self.until_all(State::Watching, "", |_| ())?;
            tell(self.crowd.len());
        }
        Ok(())
    }

    /// Sets a key below the directory and waits until all watchers have the event.
    ///
    /// # Errors
    /// Not all of them get it, or one gets something else.
    pub fn event(&mut self, number: usize) -> Result<Delivery> {
        let value = format!("event-{number}");
        let path = format!("{DIRECTORY}/key");
        let put = Request::put(path, format!("value={value}")).encode(&self.host);
        let half_of_all = self.states.len().div_ceil(2);
        let mut half = Duration::ZERO;
        let begin = Instant::now();
        self.setter.send(&put)?;
        self.until_all(State::Notified, &format!("\"value\":\"{value}\""), |told| {
            if told == half_of_all {
                half = begin.elapsed();
            }
        })?;
        let all = begin.elapsed();
        let (status, body) = self.setter.answer()?;
        ensure!(matches!(status, 200 | 201), "the PUT: HTTP {status}");
        self.watch_again(&body)?;
        Ok(Delivery { half, all })
    }

    /// After an event: one-shot watchers send their next watch, from the index that follows it.
    fn watch_again(&mut self, put: &[u8]) -> Result<()> {
        if self.stream {
            self.states.fill(State::Watching);
            return Ok(());
        }
        let index = modified_index(put).context("the PUT's answer has no modifiedIndex")?;
        let request = self.watch(Some(index + 1));
        for number in 0..self.states.len() {
            self.states[number] = State::Sent;
            self.crowd.at(number).send(&request)?;
        }
        self.until_all(State::Watching, "", |_| ())
    }

    fn watch(&self, since: Option<u64>) -> Vec<u8> {
        let mut path = format!("{DIRECTORY}?wait=true&recursive=true");
        if self.stream {
            path += "&stream=true";
        }
        if let Some(since) = since {
            path += &format!("&waitIndex={since}");
        }
        Request::get(path).encode(&self.host)
    }

    /// Reads until all are in that state; reports their number whenever it grows.
    fn until_all(&mut self, goal: State, event: &str, mut tell: impl FnMut(usize)) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut there = self.states.iter().filter(|state| **state == goal).count();
        let mut ready = Vec::new();
        while there < self.states.len() {
            if Instant::now() >= deadline {
                let all = self.states.len();
                bail!("{there} of {all} watchers are {goal:?} after {PATIENCE:?}");
            }
            self.crowd.wait(deadline, &mut ready)?;
            for number in &ready {
                let open = self.crowd.receive(*number)?;
                ensure!(open, "the server closed a watcher's connection");
                let before = self.states[*number];
                if self.look(*number, event)? == goal && before != goal {
                    there += 1;
                    tell(there);
                }
            }
        }
        Ok(())
    }

    /// What a watcher's bytes make of it.
    fn look(&mut self, number: usize, event: &str) -> Result<State> {
        let state = &mut self.states[number];
        while let Some(item) = self.crowd.at(number).replies.item()? {
            match (*state, item) {
                (State::Sent, Item::Head(200, _)) => *state = State::Watching,
                (State::Watching, Item::Data(data)) => {
                    let data = std::str::from_utf8(data)?;
                    ensure!(data.contains(event), "another event than {event}: {data}");
                    if self.stream {
                        *state = State::Notified;
                    }
                }
                (State::Watching, Item::End) if !self.stream => *state = State::Notified,
                (state, item) => bail!("while {state:?}: {item:?}"),
            }
        }
        Ok(*state)
    }
}

/// The node's modifiedIndex, which comes before the previous node's.
fn modified_index(body: &[u8]) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get("node")?.get("modifiedIndex")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_to_go_on_from() {
        let body = br#"{"action":"set","node":{"key":"/dir/key","value":"2","modifiedIndex":9,
            "createdIndex":9},"prevNode":{"key":"/dir/key","value":"1","modifiedIndex":8}}"#;
        assert_eq!(modified_index(body), Some(9));
        assert_eq!(modified_index(b"{\"errorCode\":100}"), None);
    }
}
