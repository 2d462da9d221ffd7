//! A component's view of etcd: the member of its own host, and the answers that are violations.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ledger::ComponentLedger;
use crate::http::{Client, Open, Reply, Request};

/// Above a member's time limit for anything but a wait.
const PATIENCE: Duration = Duration::from_secs(12);

/// The pause after which a component retries while its member is down.
const DOWN: Duration = Duration::from_millis(80);

/// The outcome of a write.
#[derive(Debug)]
pub enum Wrote {
    /// Carried out, or refused for good: the member's reply.
    Said(Reply),
    /// Unknown.
    Unknown,
}

/// A component on a host.
#[derive(Debug)]
pub struct Component {
    /// Its name, for messages.
    pub name: String,
    /// The number of its member.
    pub member: usize,
    /// The state that all components share.
    pub ledger: Arc<ComponentLedger>,
    client: Client,
    /// The largest index that its member has returned.
    index: u64,
}

impl Component {
    /// The component `name` beside member `member` at `url`.
    pub fn new(name: &str, member: usize, url: &str, ledger: &Arc<ComponentLedger>) -> Component {
        Component {
            name: format!("{name}@m{}", member + 1),
            member,
            ledger: ledger.clone(),
            client: Client::patient(url, PATIENCE),
            index: 0,
        }
    }

    fn epoch(&self) -> u64 {
        self.ledger.epochs[self.member].load(Ordering::SeqCst)
    }

    /// Whether the member has been up since its epoch had this value.
    fn up_since(&self, epoch: u64) -> bool {
        epoch.is_multiple_of(2) && self.epoch() == epoch
    }

    /// Records a violation.
    pub fn violation(&self, text: &str) {
        self.ledger.violation(format!("{}: {text}", self.name));
    }

    /// Sends a request; `None` if the member is down, which is the only excuse for no answer.
    pub async fn ask(&mut self, request: &Request) -> Option<Reply> {
        let before = self.epoch();
        let answer = self.client.ask(request).await;
        match answer {
            Ok(reply) => {
                self.ledger.answered.fetch_add(1, Ordering::Relaxed);
                self.monotone(request, &reply);
                Some(reply)
            }
            Err(error) => {
                if self.up_since(before) {
                    self.violation(&format!("{request}: {error:#}, and the member is up"));
                }
                self.ledger.unheard.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(DOWN).await;
                None
            }
        }
    }

    /// A component sends one request after another, so its member's index never decreases.
    fn monotone(&mut self, request: &Request, reply: &Reply) {
        let Some(index) = reply.number("x-etcd-index") else {
            return;
        };
        if index < self.index && 0 < index {
            let text = format!("{request}: index {index} after {}", self.index);
            self.violation(&text);
        }
        self.index = self.index.max(index);
    }

    /// Reads an existing key: Deis takes any status but 200 for "not there".
    pub async fn read(&mut self, target: &str) -> Option<Reply> {
        let request = Request::get(target);
        let reply = self.ask(&request).await?;
        if reply.status != 200 {
            self.violation(&format!("{request}: {reply}"));
            return None;
        }
        Some(reply)
    }

    /// A write whose answer must be one of these; 5xx leaves its outcome open.
    pub async fn write(&mut self, request: &Request, expected: &[u16]) -> Wrote {
        let Some(reply) = self.ask(request).await else {
            return Wrote::Unknown;
        };
        if 500 <= reply.status {
            self.ledger.uncertain.fetch_add(1, Ordering::Relaxed);
            return Wrote::Unknown;
        }
        if !expected.contains(&reply.status) {
            self.violation(&format!("{request}: {reply}"));
        }
        Wrote::Said(reply)
    }

    /// Sets a key of its own and records it; returns the reply if it succeeded.
    pub async fn set(&mut self, key: &str, value: &str, request: &Request) -> Option<Reply> {
        match self.write(request, &[200, 201]).await {
            Wrote::Said(reply) if reply.status < 300 => {
                let index = reply.json()?["node"]["modifiedIndex"].as_u64();
                self.ledger.ack(key, value, index.unwrap_or_default());
                Some(reply)
            }
            _ => {
                self.ledger.doubt(key, value);
                None
            }
        }
    }

    /// Renews a key.
    pub async fn heartbeat(&mut self, key: &str, value: &str, ttl: u64) -> Option<Reply> {
        let request = Request::put(format!("/v2/keys{key}"), format!("value={value}&ttl={ttl}"));
        let since = Instant::now();
        match self.write(&request, &[200, 201]).await {
            Wrote::Said(reply) if reply.status < 300 => {
                self.ledger.renew(key, since, ttl);
                Some(reply)
            }
            _ => None,
        }
    }

    /// Watches until there is an event, the member goes down, or the component is to end.
    pub async fn watch(&mut self, target: &str) -> Option<Reply> {
        let request = Request::get(target);
        let before = self.epoch();
        let opened = self.client.open(&request).await;
        let mut open = match opened {
            Ok(open) => open,
            Err(error) => {
                if self.up_since(before) {
                    self.violation(&format!("{request}: {error:#}, and the member is up"));
                }
                tokio::time::sleep(DOWN).await;
                return None;
            }
        };
        let ended = self.wait(&mut open).await;
        let broken = !ended || open.head.body.is_empty();
        if broken && self.ledger.going() && self.up_since(before) {
            self.violation(&format!("{request}: cut after {}", open.head));
        }
        if broken {
            return None;
        }
        if open.head.status == 200 {
            self.ledger.events.fetch_add(1, Ordering::Relaxed);
        }
        Some(open.head)
    }

    /// Reads to the end of the body; false when there is none.
    async fn wait(&self, open: &mut Open) -> bool {
        while self.ledger.going() {
            match tokio::time::timeout(DOWN, open.more()).await {
                Ok(Ok(true)) => return true,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(_)) => {
                    // The connection may end before the kill has been recorded.
                    tokio::time::sleep(DOWN).await;
                    return false;
                }
            }
        }
        false
    }
}
