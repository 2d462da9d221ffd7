//! A member that speaks HTTP/2 under the control of a test, and answers probes over HTTP/1.1.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// This message, and good trailers.
    Reply(&'static str),
    /// The same, but watches are neither read nor answered.
    ReplyToCalls(&'static str),
    /// Every message back, until the client ends.
    Echo,
    /// REFUSED_STREAM: nothing was done.
    Refuse,
    /// INTERNAL_ERROR, for this call alone.
    Reset,
    /// The connection closes.
    Die,
    /// Nothing.
    Hang,
}

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Callee {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Called>>>,
    given_up: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    leads: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Callee {
    pub(crate) async fn start(fate: Fate) -> Callee {
        Callee::start_at("127.0.0.1:0".parse().unwrap(), fate).await
    }

    pub(crate) async fn start_at(address: SocketAddr, fate: Fate) -> Callee {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let calls = Arc::clone(&seen);
        let given_up = Arc::default();
        let resets = Arc::clone(&given_up);
        let ended = Arc::default();
        let ends = Arc::clone(&ended);
        let leads = Arc::default();
        let leading = Arc::clone(&leads);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let calls = Arc::clone(&calls);
                let counts = [&resets, &ends].map(Arc::clone);
                connections.spawn(serve(socket, fate, calls, counts, Arc::clone(&leading)));
            }
        });
        Callee {
            address,
            seen,
            given_up,
            ended,
            leads,
            task,
        }
    }

    /// Connections that it has ended because of what came by them.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Called> {
        self.seen.lock().unwrap().clone()
    }

    /// It reports from now on that it leads.
    pub(crate) fn lead(&self) {
        self.leads.store(true, Ordering::SeqCst);
    }

    /// Calls that were reset while they hung.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::SeqCst)
    }

    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn serve(
    mut socket: TcpStream,
    fate: Fate,
    seen: Arc<Mutex<Vec<Called>>>,
    [given_up, ended]: [Arc<AtomicUsize>; 2],
    leads: Arc<AtomicBool>,
) {
    let mut first = [0; 4];
    while matches!(socket.peek(&mut first).await, Ok(1..4)) {
        tokio::task::yield_now().await;
    }
    if &first != b"PRI " {
        let _ = socket.read(&mut [0; 1024]).await;
        let state = match leads.load(Ordering::SeqCst) {
            true => r#"{"state":"StateLeader"}"#,
            false => r#"{"state":"StateFollower"}"#,
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", state.len());
        let _ = socket.write_all((head + state).as_bytes()).await;
        return;
    }
    // As hyper's servers have it, which members are.
    let mut server = h2::server::Builder::new();
    server
        .initial_connection_window_size(1 << 20)
        .initial_window_size(1 << 20)
        .max_pending_accept_reset_streams(4096)
        .max_local_error_reset_streams(None);
    let mut connection = server.handshake(socket).await.unwrap();
    let mut calls = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = match accepted {
            Ok(call) => call,
            Err(error) => {
                let own = error.is_go_away() && error.is_library();
                ended.fetch_add(usize::from(own), Ordering::SeqCst);
                return;
            }
        };
        let path = request.uri().path().to_owned();
        let headers = request.headers().clone();
        seen.lock().unwrap().push(Called { path, headers });
        if matches!(fate, Fate::Die) {
            return;
        }
        calls.spawn(meet(fate, Arc::clone(&given_up), request, respond));
    }
}

async fn meet(
    fate: Fate,
    given_up: Arc<AtomicUsize>,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let watches = request.uri().path().ends_with("/Watch");
    if matches!(fate, Fate::Hang) || watches && matches!(fate, Fate::ReplyToCalls(_)) {
        let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        given_up.fetch_add(1, Ordering::SeqCst);
        return;
    }
    if matches!(fate, Fate::Refuse) {
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    if matches!(fate, Fate::Reset) {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    }
    let response = Response::builder().header("content-type", "application/grpc");
    let mut sender = respond
        .send_response(response.body(()).unwrap(), false)
        .unwrap();
    if let Fate::Reply(text) | Fate::ReplyToCalls(text) = fate {
        sender.send_data(Bytes::from(text), false).unwrap();
    } else {
        let mut body = request.into_body();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            if sender.send_data(data, false).is_err() {
                return;
            }
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = sender.send_trailers(trailers);
}
