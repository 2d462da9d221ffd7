//! A member whose watches and keepalives are served by a test, and the client's side of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use keelson_proto::etcdserverpb as pb;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::lease_server::{Lease, LeaseServer};
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_server::{Watch, WatchServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The number of messages that wait at each end of a stream.
const QUEUED_MAX: usize = 4;

/// One end of a stream: what it receives, and what it sends.
pub(crate) struct Side<In, Out> {
    received: Streaming<In>,
    sent: Option<mpsc::Sender<Out>>,
}

/// The member's end of a stream.
pub(crate) type Peer<In, Out> = Side<In, Result<Out, Status>>;

impl<In, Out> Side<In, Out> {
    /// Sends a message; it waits while too many wait already.
    pub(crate) async fn send(&self, message: Out) {
        let sender = self.sent.as_ref().expect("the end has not been closed");
        let sent = time::timeout(PATIENCE, sender.send(message));
        assert!(sent.await.unwrap().is_ok(), "the stream has ended");
    }

    /// Sends a message, however long it waits. Returns whether the stream goes on.
    pub(crate) async fn offer(&self, message: Out) -> bool {
        let sender = self.sent.as_ref().expect("the end has not been closed");
        sender.send(message).await.is_ok()
    }

    /// The next message, however long it takes; `None` at the end.
    pub(crate) async fn receive(&mut self) -> Result<Option<In>, Status> {
        self.received.message().await
    }

    /// Sends a message if few are waiting. Returns whether it was sent.
    pub(crate) fn try_send(&self, message: Out) -> bool {
        self.sent.as_ref().unwrap().try_send(message).is_ok()
    }

    /// Whether the other end has left.
    pub(crate) fn is_closed(&self) -> bool {
        self.sent.as_ref().is_none_or(|sender| sender.is_closed())
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<In>, Status> {
        let next = time::timeout(PATIENCE, self.received.message());
        next.await.expect("a message in time")
    }

    /// The next message, which comes.
    pub(crate) async fn take(&mut self) -> In {
        self.next().await.unwrap().expect("a message")
    }

    /// No more messages are sent.
    pub(crate) fn close(&mut self) {
        self.sent = None;
    }
}

type WatchPeer = Peer<pb::WatchRequest, pb::WatchResponse>;
type LeasePeer = Peer<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>;

/// A member of which a test serves the streams.
pub(crate) struct StreamingMember {
    pub(crate) address: SocketAddr,
    watches: Mutex<mpsc::UnboundedReceiver<WatchPeer>>,
    keepalives: Mutex<mpsc::UnboundedReceiver<LeasePeer>>,
    tokens: Arc<Mutex<Vec<String>>>,
    sockets: Sockets,
    hangs: Arc<AtomicBool>,
    served: AtomicUsize,
    accepting: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

type Sockets = Arc<Mutex<VecDeque<std::net::TcpStream>>>;

impl StreamingMember {
    pub(crate) async fn start() -> StreamingMember {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (watched, watches) = mpsc::unbounded_channel();
        let (kept, keepalives) = mpsc::unbounded_channel();
        let sockets = Sockets::default();
        let (connected, connections) = mpsc::channel(16);
        let hangs = Arc::new(AtomicBool::new(false));
        let state = (Arc::clone(&sockets), Arc::clone(&hangs));
        let accepting = tokio::spawn(accept(listener, state, connected));
        let (stop, stopped) = oneshot::channel::<()>();
        let connections = ReceiverStream::new(connections).map(Ok::<_, std::io::Error>);
        let tokens = Arc::default();
        let service = Service {
            watched,
            kept,
            tokens: Arc::clone(&tokens),
        };
        let serving = tonic::transport::Server::builder()
            .add_service(WatchServer::new(service.clone()))
            .add_service(LeaseServer::new(service))
            .serve_with_incoming_shutdown(connections, async { drop(stopped.await) });
        tokio::spawn(serving);
        StreamingMember {
            address,
            watches: Mutex::new(watches),
            keepalives: Mutex::new(keepalives),
            tokens,
            sockets,
            hangs,
            served: AtomicUsize::default(),
            accepting,
            stop,
        }
    }

    /// The next stream of watches.
    pub(crate) async fn watch(&self) -> WatchPeer {
        let next = std::future::poll_fn(|cx| self.watches.lock().unwrap().poll_recv(cx));
        time::timeout(PATIENCE, next).await.unwrap().unwrap()
    }

    /// The tokens of the streams of watches so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }

    /// The same, however long it takes.
    pub(crate) async fn next_watch(&self) -> WatchPeer {
        let next = std::future::poll_fn(|cx| self.watches.lock().unwrap().poll_recv(cx)).await;
        self.served.fetch_add(1, Ordering::SeqCst);
        next.unwrap()
    }

    /// How many streams were taken in this way.
    pub(crate) fn streams(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// The next stream of keepalives.
    pub(crate) async fn keepalive(&self) -> LeasePeer {
        let next = std::future::poll_fn(|cx| self.keepalives.lock().unwrap().poll_recv(cx));
        time::timeout(PATIENCE, next).await.unwrap().unwrap()
    }

    /// Closes its port and all connections, as a process does that dies.
    pub(crate) async fn kill(&self) {
        self.accepting.abort();
        while !self.accepting.is_finished() {
            time::sleep(Duration::from_millis(1)).await;
        }
        self.cut();
    }

    /// Closes all connections; the port stays open.
    pub(crate) fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Answers no probe from now on. Its connections stay open.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// Sends GOAWAY on all connections; the streams go on.
    pub(crate) fn drain(self) -> DrainingMember {
        drop(self.stop);
        DrainingMember {
            _accepting: self.accepting,
        }
    }
}

/// A member that takes no new streams.
pub(crate) struct DrainingMember {
    _accepting: JoinHandle<()>,
}

/// Accepts connections: probes are answered at once.
async fn accept(
    listener: TcpListener,
    (sockets, hangs): (Sockets, Arc<AtomicBool>),
    connected: mpsc::Sender<TcpStream>,
) {
    let mut hanging = vec![];
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 4];
        while matches!(socket.peek(&mut first).await, Ok(1..4)) {
            tokio::task::yield_now().await;
        }
        if &first == b"PRI " {
            let socket = socket.into_std().unwrap();
            sockets
                .lock()
                .unwrap()
                .push_back(socket.try_clone().unwrap());
            let socket = TcpStream::from_std(socket).unwrap();
            let _ = connected.send(socket).await;
            continue;
        }
        let _ = socket.read(&mut [0; 1024]).await;
        if hangs.load(Ordering::SeqCst) {
            hanging.push(socket);
            continue;
        }
        let state = r#"{"state":"StateFollower","etcdserver":"3.5.21"}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", state.len());
        let _ = socket.write_all((head + state).as_bytes()).await;
    }
}

#[derive(Clone)]
struct Service {
    watched: mpsc::UnboundedSender<WatchPeer>,
    kept: mpsc::UnboundedSender<LeasePeer>,
    tokens: Arc<Mutex<Vec<String>>>,
}

type Responses<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn stream<In, Out: Send + 'static>(
    request: Request<Streaming<In>>,
    to: &mpsc::UnboundedSender<Peer<In, Out>>,
) -> Result<Response<Responses<Out>>, Status> {
    let (sent, responses) = mpsc::channel(QUEUED_MAX);
    let peer = Side {
        received: request.into_inner(),
        sent: Some(sent),
    };
    to.send(peer).map_err(|_| Status::internal("no test"))?;
    Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
}

#[tonic::async_trait]
impl Watch for Service {
    type WatchStream = Responses<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if let Some(token) = request.metadata().get("token") {
            let token = token.to_str().unwrap().to_owned();
            self.tokens.lock().unwrap().push(token);
        }
        stream(request, &self.watched)
    }
}

#[tonic::async_trait]
impl Lease for Service {
    type LeaseKeepAliveStream = Responses<pb::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        stream(request, &self.kept)
    }

    async fn lease_grant(
        &self,
        _: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn lease_revoke(
        &self,
        _: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl Side<pb::WatchResponse, pb::WatchRequest> {
    /// Opens a stream of watches.
    pub(crate) async fn watch(proxy: &Channel) -> Self {
        Side::watch_with(proxy, None).await
    }

    /// The same, with a request: etcd sends no head before its first answer.
    pub(crate) async fn watch_with(proxy: &Channel, first: Option<pb::WatchRequest>) -> Self {
        let (sent, requests) = mpsc::channel(QUEUED_MAX);
        first
            .into_iter()
            .for_each(|one| sent.try_send(one).unwrap());
        Side::open(proxy, Request::new(ReceiverStream::new(requests)), sent).await
    }

    /// Opens a stream of watches with a token.
    pub(crate) async fn watch_with_token(proxy: &Channel, token: &'static str) -> Self {
        let (sent, requests) = mpsc::channel(QUEUED_MAX);
        let mut request = Request::new(ReceiverStream::new(requests));
        let token = token.parse().unwrap();
        request.metadata_mut().insert("token", token);
        Side::open(proxy, request, sent).await
    }

    async fn open(
        proxy: &Channel,
        request: Request<ReceiverStream<pb::WatchRequest>>,
        sent: mpsc::Sender<pb::WatchRequest>,
    ) -> Self {
        let mut client = WatchClient::new(proxy.clone());
        let opened = client.watch(request);
        let opened = time::timeout(PATIENCE, opened).await.unwrap().unwrap();
        Side {
            received: opened.into_inner(),
            sent: Some(sent),
        }
    }
}

impl Side<pb::LeaseKeepAliveResponse, pb::LeaseKeepAliveRequest> {
    /// Opens a stream of keepalives.
    pub(crate) async fn keepalive(proxy: &Channel) -> Self {
        Side::keepalive_with(proxy, None).await
    }

    /// The same, with a request.
    pub(crate) async fn keepalive_with(
        proxy: &Channel,
        first: Option<pb::LeaseKeepAliveRequest>,
    ) -> Self {
        let (sent, requests) = mpsc::channel(QUEUED_MAX);
        first
            .into_iter()
            .for_each(|one| sent.try_send(one).unwrap());
        let mut client = LeaseClient::new(proxy.clone());
        let opened = client.lease_keep_alive(ReceiverStream::new(requests));
        let opened = time::timeout(PATIENCE, opened).await.unwrap().unwrap();
        Side {
            received: opened.into_inner(),
            sent: Some(sent),
        }
    }
}
