//! A member under the control of a test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::received::receive;
use crate::support::until;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn has(&self, field: &str) -> bool {
        self.head
            .lines()
            .any(|line| line.eq_ignore_ascii_case(field))
    }
}

/// What a fake does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(String),
    Sleep(Duration),
    Hang,
    Close,
}

/// A complete answer.
pub(crate) fn answer(status: &str, body: &str) -> Vec<Step> {
    answer_at(7, status, body)
}

/// The same of a member that has come so far.
pub(crate) fn answer_at(index: u64, status: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Etcd-Index: {index}\r\n\r\n{body}"
    );
    vec![Step::Send(text)]
}

type Script = dyn Fn(&Seen) -> Vec<Step> + Send + Sync;

#[derive(Clone)]
struct State {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
    answers: Arc<AtomicBool>,
    ready: watch::Sender<bool>,
    leads: Arc<Mutex<Option<bool>>>,
    looked: Arc<AtomicBool>,
    client_urls: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicUsize>,
    address: SocketAddr,
}

pub(crate) struct Fake {
    state: State,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Fake {
        Fake::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Fake {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            script: Arc::new(script),
            seen: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            healthy: Arc::new(AtomicBool::new(true)),
            answers: Arc::new(AtomicBool::new(true)),
            ready: watch::Sender::new(true),
            leads: Arc::default(),
            looked: Arc::default(),
            client_urls: Arc::new(Mutex::new(vec![format!("http://{address}")])),
            asked: Arc::default(),
            address,
        };
        let task = tokio::spawn(accept(listener, state.clone()));
        Fake { state, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.state.address)
    }

    /// The answer of `/members`.
    pub(crate) fn advertise(&self, urls: Vec<String>) {
        *self.state.client_urls.lock().unwrap() = urls;
    }

    /// How often the member list was fetched.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Returns once the member list was fetched so many times.
    pub(crate) async fn was_asked_for_members(&self, times: usize) {
        until("it is asked for the members", async || {
            times <= self.asked()
        })
        .await;
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::SeqCst);
    }

    /// The answer of `/v2/stats/self`; there is no such path before.
    pub(crate) fn set_leads(&self, leads: bool) {
        *self.state.leads.lock().unwrap() = Some(leads);
    }

    /// Returns once the leader's state was fetched, which is the last step of a health check.
    pub(crate) async fn was_looked_at(&self) {
        let looked = &self.state.looked;
        until("a look", async || looked.load(Ordering::SeqCst)).await;
        // What was answered has to arrive.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// As a process that is stopped: it accepts connections and answers nothing, not even
    /// `/version`.
    pub(crate) fn set_silent(&self) {
        self.state.answers.store(false, Ordering::SeqCst);
    }

    /// As a member that is not ready: it holds all requests but `/health`, which reports it.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.set_healthy(ready);
        self.state.ready.send_replace(ready);
    }

    /// All requests but the proxy's own.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Connections on which such requests came.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Returns once all connections to it have ended.
    pub(crate) async fn has_no_connection(&self) {
        until("no connection", async || self.open() == 0).await;
    }

    /// As kill -9: all sockets close at once.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.state.address
    }
}

async fn accept(listener: TcpListener, state: State) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            state.open.fetch_add(1, Ordering::SeqCst);
            serve(socket, &state).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(mut socket: TcpStream, state: &State) {
    let mut first = true;
    while let Some(seen) = receive(&mut socket).await {
        if !state.answers.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if !seen.line.starts_with("GET /health ") {
            let mut ready = state.ready.subscribe();
            ready.wait_for(|ready| *ready).await.unwrap();
        }
        let steps = match own(&seen, state) {
            Some(steps) => steps,
            None => {
                state
                    .connections
                    .fetch_add(usize::from(first), Ordering::SeqCst);
                first = false;
                state.seen.lock().unwrap().push(seen.clone());
                (state.script)(&seen)
            }
        };
        for step in steps {
            if perform(&mut socket, step).await.is_err() {
                return;
            }
        }
    }
}

/// Until the client leaves; a fake must notice, as members do.
async fn perform(socket: &mut TcpStream, step: Step) -> Result<(), ()> {
    match step {
        Step::Send(text) => socket.write_all(text.as_bytes()).await.map_err(drop),
        Step::Sleep(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Step::Hang => {
            let _ = socket.read(&mut [0; 16]).await;
            Err(())
        }
        Step::Close => Err(()),
    }
}

fn own(seen: &Seen, state: &State) -> Option<Vec<Step>> {
    let healthy = state.healthy.load(Ordering::SeqCst);
    match seen.line.split(' ').nth(1)? {
        "/members" => {
            state.asked.fetch_add(1, Ordering::SeqCst);
            let urls = state.client_urls.lock().unwrap().clone();
            let members = serde_json::json!([{
                "id": u64::MAX, "name": "fake",
                "peerURLs": [format!("http://{}", state.address)], "clientURLs": urls,
            }]);
            Some(answer("200 OK", &members.to_string()))
        }
        "/version" if seen.has("x-test: pass") => None,
        "/version" => Some(answer("200 OK", "{}")),
        "/health" if healthy => Some(answer("200 OK", "{}")),
        "/health" => Some(answer("503 Service Unavailable", "{}")),
        "/v2/stats/self" => Some({
            state.looked.store(true, Ordering::SeqCst);
            match *state.leads.lock().unwrap() {
                Some(true) => answer("200 OK", r#"{"state":"StateLeader"}"#),
                Some(false) => answer("200 OK", r#"{"state":"StateFollower"}"#),
                None => answer("404 Not Found", "404 page not found\n"),
            }
        }),
        _ => None,
    }
}
