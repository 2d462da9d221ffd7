//! The lanes of a link: their clients, and the number of connections.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_port::http2::NoStream;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::grpc_methods::Kind;
use crate::h2::call::{Call, CallHead};
use crate::h2::owner::{ClientSession, Owner};
use crate::policy::endpoint::Health;

/// An upper bound for every wait here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member that accepts connections and does not answer.
struct Silent {
    proxy: Arc<Context>,
    endpoint: Arc<Endpoint>,
    /// The number of open connections.
    open: watch::Receiver<usize>,
    /// The bytes received on all of them.
    heard: watch::Receiver<Vec<u8>>,
}

impl Silent {
    async fn start(sockets: &'static Sockets) -> Silent {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (count, open) = watch::channel(0);
        let (hears, heard) = watch::channel(vec![]);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (count, hears) = (count.clone(), hears.clone());
                count.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    let mut part = vec![0; 4096];
                    while let Ok(read @ 1..) = socket.read(&mut part).await {
                        hears.send_modify(|heard| heard.extend_from_slice(&part[..read]));
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
        config.request_timeout = Duration::ZERO;
        // None fails for lack of time.
        config.dial_timeout = Duration::from_secs(60);
        let proxy = Arc::new(Context {
            sockets,
            ..Context::new(config, vec![])
        });
        let endpoint = proxy.endpoints.update(&[url]).await.remove(0);
        Silent {
            proxy,
            endpoint,
            open,
            heard,
        }
    }

    async fn connect(&self, of: Option<u64>) -> Result<Arc<Session>, Failure> {
        let link = &self.endpoint.link;
        link.connect(&self.endpoint, &self.proxy, of).await
    }

    /// Waits for that number of connections.
    async fn has(&mut self, count: usize) {
        let has = self.open.wait_for(|open| *open == count);
        let waited = time::timeout(PATIENCE, has).await;
        waited.expect("connections are made and end").unwrap();
    }

    /// A write with its whole body.
    fn call(&self) -> Arc<Call> {
        self.call_of(&client())
    }

    /// The same, for a client that gets an answer.
    fn accepted(&self, client: &Arc<ClientSession>) -> Arc<Call> {
        let call = self.call_of(client);
        client.accept(1, Owner::Client(Arc::clone(&call)), true);
        call
    }

    fn call_of(&self, client: &Arc<ClientSession>) -> Arc<Call> {
        let head = CallHead {
            fields: Bytes::from_static(b"fields"),
            kind: Kind::of("/etcdserverpb.KV/Put"),
            timeout: None,
        };
        Call::new(&self.proxy, client, 1, head)
    }

    /// Opens all streams that a connection allows.
    fn fill(&self, session: &Session) {
        while session.has_free_stream() {
            session
                .open(Owner::Member(self.call()), b"fields", b"", true)
                .unwrap();
        }
    }
}

fn client() -> Arc<ClientSession> {
    Arc::new(ClientSession::new([1000, 4000]))
}

/// Waits until this text is sent to a client.
async fn told(client: &ClientSession, text: &str) {
    let mut told = vec![];
    let telling = poll_fn(|cx| {
        let mut out = BytesMut::new();
        client.take(&mut out, cx.waker());
        told.extend_from_slice(&out);
        match told.windows(text.len()).any(|part| part == text.as_bytes()) {
            true => Poll::Ready(()),
            // The answer may come in several parts.
            false if !out.is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            false => Poll::Pending,
        }
    });
    time::timeout(PATIENCE, telling).await.expect(text);
}

fn plenty() -> &'static Sockets {
    Sockets::with_calls(100, 100)
}

#[tokio::test]
async fn clients_beyond_their_share_have_connections_of_their_own_up_to_a_number() {
    let mut member = Silent::start(plenty()).await;
    let shared = member.connect(None).await.unwrap();
    // A client with more than one connection is one client.
    let first = member.connect(Some(1)).await.unwrap();
    assert!(Arc::ptr_eq(&member.connect(Some(1)).await.unwrap(), &first));
    member.fill(&first);
    let second = member.connect(Some(1)).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    // One that is idle makes room.
    second
        .open(Owner::Member(member.call()), b"fields", b"", true)
        .unwrap();
    let clients = u64::try_from(OWN_MAX).unwrap();
    for client in 2..=clients {
        let own = member.connect(Some(client)).await.unwrap();
        assert!(!Arc::ptr_eq(&own, &shared), "client {client}");
        own.open(Owner::Member(member.call()), b"fields", b"", true)
            .unwrap();
    }
    let beyond = member.connect(Some(clients + 1)).await.unwrap();
    assert!(Arc::ptr_eq(&beyond, &shared));
    member.has(OWN_MAX + 2).await;
}

#[tokio::test]
async fn connections_for_the_same_clients_are_bounded() {
    for (of, bound) in [(None, SHARED_LANES_MAX), (Some(1), OWN_LANES_MAX)] {
        let mut member = Silent::start(plenty()).await;
        for count in 1..=bound {
            let session = member.connect(of).await.unwrap();
            member.fill(&session);
            member.has(count).await;
        }
        let last = member.connect(of).await.unwrap();
        let full = last.open(Owner::Member(member.call()), b"fields", b"", true);
        assert_eq!(full, Err(NoStream::Full));
        assert_eq!(*member.open.borrow(), bound);
    }
}

#[tokio::test]
async fn a_clients_own_connections_end_when_it_leaves() {
    let mut member = Silent::start(plenty()).await;
    member.connect(None).await.unwrap();
    let other = member.connect(Some(2)).await.unwrap();
    other
        .open(Owner::Member(member.call()), b"fields", b"", true)
        .unwrap();
    let own = member.connect(Some(1)).await.unwrap();
    member.has(3).await;
    let (stream, _) = own
        .open(Owner::Member(member.call()), b"fields", b"", true)
        .unwrap();
    member.endpoint.link.leave(1);
    assert!(!own.is_open());
    // Its calls are reset before it disconnects.
    own.answered(stream);
    member.has(2).await;
    assert!(other.is_open());
}

/// A watch may last for days.
#[tokio::test]
async fn connections_that_take_no_new_calls_are_bounded_too() {
    for of in [None, Some(1)] {
        let mut member = Silent::start(plenty()).await;
        let mut sessions = vec![];
        for _ in 0..3 * RETIRED_LANES_MAX {
            let session = member.connect(of).await.unwrap();
            session
                .open(Owner::Member(member.call()), b"fields", b"", true)
                .unwrap();
            // As after a member's GOAWAY.
            session.shut_down();
            sessions.push(session);
        }
        member.connect(of).await.unwrap();
        member.has(RETIRED_LANES_MAX + 1).await;
        // The latest are left.
        let left = sessions.iter().skip(2 * RETIRED_LANES_MAX);
        assert!(left.clone().all(|session| session.streams() == 1));
        assert_eq!(member.endpoint.health(), Health::Healthy);
    }
}

/// Its calls end as if the member had closed it, but the member is not left alone for that.
#[tokio::test]
async fn a_connection_that_is_cut_says_nothing_of_its_member() {
    let mut member = Silent::start(plenty()).await;
    let client = client();
    let session = member.connect(None).await.unwrap();
    member.accepted(&client).begin(true);
    assert_eq!(session.streams(), 1);
    let heard = |heard: &Vec<u8>| heard.windows(6).any(|part| part == b"fields");
    member.heard.wait_for(heard).await.unwrap();
    session.shut_down();
    for _ in 0..=RETIRED_LANES_MAX {
        let session = member.connect(None).await.unwrap();
        session
            .open(Owner::Member(member.call()), b"fields", b"", true)
            .unwrap();
        session.shut_down();
    }
    member.connect(None).await.unwrap();
    told(
        &client,
        "etcdserver: request timed out, possibly due to connection lost",
    )
    .await;
    assert_eq!(member.endpoint.health(), Health::Healthy);
}

#[tokio::test]
async fn without_a_descriptor_a_call_is_refused_and_its_member_stays_well() {
    let member = Silent::start(Sockets::with_calls(0, 0)).await;
    for of in [None, Some(1)] {
        let connected = member.connect(of).await;
        assert!(matches!(connected, Err(Failure::Crowded(_))));
    }
    let client = client();
    member.accepted(&client).begin(true);
    told(&client, "there is no connection available").await;
    assert_eq!(member.endpoint.health(), Health::Healthy);
    // EMFILE and ENFILE, and ECONNREFUSED.
    for (error, is_the_members) in [(24, false), (23, false), (111, true)] {
        let failure = Failure::of_connecting(std::io::Error::from_raw_os_error(error));
        assert_eq!(failure.is_the_members(), is_the_members, "{failure}");
    }
}

#[tokio::test]
async fn a_client_without_a_place_of_its_own_uses_those_of_all() {
    let mut member = Silent::start(Sockets::with_calls(1, 1)).await;
    let shared = member.connect(None).await.unwrap();
    let own = member.connect(Some(1)).await.unwrap();
    own.open(Owner::Member(member.call()), b"fields", b"", true)
        .unwrap();
    let other = member.connect(Some(2)).await.unwrap();
    assert!(Arc::ptr_eq(&other, &shared));
    // Its own lane, while it has one.
    member.fill(&own);
    assert!(Arc::ptr_eq(&member.connect(Some(1)).await.unwrap(), &own));
    member.has(2).await;
}
