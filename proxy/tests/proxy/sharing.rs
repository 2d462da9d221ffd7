//! Equal watches of many clients cost the member one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::resumption::{Client, Member, before, create, created, events, header, request};
use crate::support::{StreamingMember, get, until};

/// A store in which each revision has one event of every range.
pub(crate) struct Store {
    revision: watch::Sender<i64>,
    /// The watches and the streams of its members.
    watches: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    /// The number of streams that were ever begun.
    begun: Arc<AtomicUsize>,
    /// The size of a value.
    size: usize,
    serving: JoinSet<()>,
}

impl Store {
    fn new(size: usize) -> Store {
        Store {
            revision: watch::Sender::new(4),
            watches: Arc::default(),
            streams: Arc::default(),
            begun: Arc::default(),
            size,
            serving: JoinSet::new(),
        }
    }

    /// Serves all streams of a member.
    fn serve(&mut self, member: &Arc<StreamingMember>) {
        let member = Arc::clone(member);
        let revision = self.revision.subscribe();
        let counts = [&self.watches, &self.streams].map(Arc::clone);
        let begun = Arc::clone(&self.begun);
        let size = self.size;
        self.serving.spawn(async move {
            let mut streams = JoinSet::new();
            loop {
                let peer = member.next_watch().await;
                begun.fetch_add(1, Ordering::SeqCst);
                streams.spawn(serve(peer, revision.clone(), counts.clone(), size));
            }
        });
    }

    pub(crate) fn write(&self) -> i64 {
        self.revision.send_modify(|revision| *revision += 1);
        *self.revision.borrow()
    }

    pub(crate) async fn has(&self, watches: usize, streams: usize) {
        until(
            &format!("{watches} watches on {streams} streams"),
            async || {
                let found = [&self.watches, &self.streams].map(|one| one.load(Ordering::SeqCst));
                found == [watches, streams]
            },
        )
        .await;
    }
}

/// Serves a stream until its client leaves.
async fn serve(
    mut peer: Member,
    mut revision: watch::Receiver<i64>,
    [watches, streams]: [Arc<AtomicUsize>; 2],
    size: usize,
) {
    streams.fetch_add(1, Ordering::SeqCst);
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    loop {
        let now = *revision.borrow_and_update();
        for (id, next) in &mut next {
            while *next <= now {
                if !peer.offer(Ok(event(*id, *next, size))).await {
                    break;
                }
                *next += 1;
            }
        }
        let union = tokio::select! {
            received = peer.receive() => match received {
                Ok(Some(request)) => request.request_union,
                _ => break,
            },
            changed = revision.changed() => match changed {
                Ok(()) => continue,
                Err(_) => break,
            },
        };
        let response = match union {
            Some(RequestUnion::CreateRequest(create)) => {
                let start = if create.start_revision == 0 {
                    now + 1
                } else {
                    create.start_revision
                };
                let id = match create.watch_id {
                    0 => (0..).find(|id| !next.contains_key(id)).unwrap(),
                    id => id,
                };
                next.insert(id, start);
                watches.fetch_add(1, Ordering::SeqCst);
                created(id, now)
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                next.remove(&cancel.watch_id);
                watches.fetch_sub(1, Ordering::SeqCst);
                let mut response = created(cancel.watch_id, now);
                (response.created, response.canceled) = (false, true);
                response
            }
            _ => progress(now),
        };
        if !peer.offer(Ok(response)).await {
            break;
        }
    }
    watches.fetch_sub(next.len(), Ordering::SeqCst);
    streams.fetch_sub(1, Ordering::SeqCst);
}

fn event(id: i64, revision: i64, size: usize) -> pb::WatchResponse {
    let mut response = events(id, &[revision]);
    response.events[0].kv.as_mut().unwrap().value = vec![7; size].into();
    response
}

pub(crate) fn progress(revision: i64) -> pb::WatchResponse {
    pb::WatchResponse {
        header: header(revision, 2),
        watch_id: -1,
        ..Default::default()
    }
}

/// One member, and so many clients with equal watches that have been created.
pub(crate) async fn begin(
    size: usize,
    count: usize,
) -> (
    Store,
    Arc<StreamingMember>,
    crate::support::Running,
    Vec<Client>,
) {
    let mut store = Store::new(size);
    let member = Arc::new(StreamingMember::start().await);
    store.serve(&member);
    let (proxy, channel) = before(&[&member]).await;
    let mut clients = vec![];
    for _ in 0..count {
        let mut client = Client::watch(&channel).await;
        client.send(create("a", 0, 0)).await;
        let answer = client.take().await;
        assert!(answer.created, "{answer:?}");
        clients.push(client);
    }
    (store, member, proxy, clients)
}

/// Each client receives the events up to this revision, the next one first.
pub(crate) async fn receive(clients: &mut [Client], from: i64, to: i64, size: usize) {
    for (n, client) in clients.iter_mut().enumerate() {
        for revision in from..=to {
            assert_eq!(client.take().await, event(0, revision, size), "client {n}");
        }
    }
}

#[tokio::test]
async fn equal_watches_of_many_clients_cost_the_member_one() {
    const CLIENTS: usize = 200;
    let (store, _member, proxy, mut clients) = begin(10, CLIENTS).await;
    store.write();
    receive(&mut clients, 5, 5, 10).await;
    store.has(1, 1).await;
    let metrics = get(proxy.address, "/metrics").await.body;
    assert!(metrics.contains("etcd_grpc_proxy_watchers_coalescing_total 199\n"));
    assert!(metrics.contains("keelson_proxy_shared_watches 1\n"));
    for revision in 6..20 {
        assert_eq!(store.write(), revision);
    }
    receive(&mut clients, 6, 19, 10).await;
    store.has(1, 1).await;
    let metrics = get(proxy.address, "/metrics").await.body;
    let coalesced = 14 * 199;
    assert!(metrics.contains(&format!(
        "etcd_grpc_proxy_events_coalescing_total {coalesced}\n"
    )));
    // A request of a client leads its stream to the member.
    let request = request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    clients[0].send(request).await;
    assert_eq!(clients[0].take().await, progress(19));
    store.has(2, 2).await;
    store.write();
    receive(&mut clients, 20, 20, 10).await;
    // The watch ends with the last client.
    drop(clients);
    store.has(0, 0).await;
}

#[tokio::test]
async fn watches_that_differ_are_not_shared() {
    let (store, _member, proxy, clients) = begin(10, 2).await;
    let url = format!("http://{}", proxy.address);
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut others = vec![];
    for n in 0..3 {
        let mut other = Client::watch(&channel).await;
        let mut request = create("a", 0, 0);
        if let Some(RequestUnion::CreateRequest(create)) = &mut request.request_union {
            match n {
                0 => create.prev_kv = false,
                1 => create.filters = vec![1],
                _ => create.range_end = "y".into(),
            }
        }
        other.send(request).await;
        assert!(other.take().await.created);
        others.push(other);
    }
    for _ in 0..2 {
        let mut other = Client::watch_with_token(&channel, "secret").await;
        other.send(create("a", 0, 0)).await;
        assert!(other.take().await.created);
        others.push(other);
    }
    // The two equal ones are one.
    store.has(6, 6).await;
    drop((clients, others));
}

#[tokio::test]
async fn the_watches_of_one_stream_are_shared_with_each_other() {
    let (store, _member, _proxy, mut clients) = begin(10, 1).await;
    let client = &mut clients[0];
    for id in 1..100 {
        client.send(create("a", id, 0)).await;
        assert!(client.take().await.created);
    }
    store.has(1, 1).await;
    store.write();
    let mut ids = vec![];
    for _ in 0..100 {
        let response = client.take().await;
        assert_eq!(response, event(response.watch_id, 5, 10));
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

/// It neither loses an event nor holds up the others, and continues with a watch of its own.
#[tokio::test]
async fn a_client_that_does_not_read_leaves_the_shared_watch_once_it_reads() {
    const SIZE: usize = 50_000;
    let (store, _member, _proxy, mut clients) = begin(SIZE, 4).await;
    store.has(1, 1).await;
    let (slow, fast) = clients.split_at_mut(1);
    for revision in 5..105 {
        store.write();
        receive(fast, revision, revision, SIZE).await;
    }
    store.has(1, 1).await;
    let begun = store.begun.load(Ordering::SeqCst);
    receive(slow, 5, 104, SIZE).await;
    assert_eq!(store.begun.load(Ordering::SeqCst), begun + 1);
    store.write();
    receive(&mut clients, 105, 105, SIZE).await;
}

#[tokio::test]
async fn a_shared_watch_outlives_its_member() {
    const CLIENTS: usize = 20;
    let members = [
        Arc::new(StreamingMember::start().await),
        Arc::new(StreamingMember::start().await),
    ];
    let mut store = Store::new(10);
    members.iter().for_each(|member| store.serve(member));
    let (_proxy, channel) = before(&[&members[0], &members[1]]).await;
    let mut clients = vec![];
    for n in 0..CLIENTS {
        let mut client = Client::watch(&channel).await;
        // From revisions that are over, and from one to come.
        let start = [0, 5, 3, 7][n % 4];
        client.send(create("a", 0, start)).await;
        assert!(client.take().await.created);
        if start == 3 {
            for revision in 3..=4 {
                assert_eq!(client.take().await, event(0, revision, 10));
            }
        }
        clients.push(client);
    }
    store.has(1, 1).await;
    store.write();
    store.write();
    for (n, client) in clients.iter_mut().enumerate() {
        let starts_later = n % 4 == 3;
        for revision in (5..=6).filter(|_| !starts_later) {
            assert_eq!(client.take().await, event(0, revision, 10), "client {n}");
        }
    }
    let serving = usize::from(members[0].streams() == 0);
    members[serving].kill().await;
    store.write();
    receive(&mut clients, 7, 7, 10).await;
    store.has(1, 1).await;
    store.write();
    receive(&mut clients, 8, 8, 10).await;
}

/// Watches from any revision, requests in between, clients that pause, and connections that break:
/// each client receives each event of its watches once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_or_repeated_however_streams_move() {
    const CLIENTS: usize = 16;
    const LAST: i64 = 250;
    let members = [
        Arc::new(StreamingMember::start().await),
        Arc::new(StreamingMember::start().await),
    ];
    let mut store = Store::new(3000);
    members.iter().for_each(|member| store.serve(member));
    let (_proxy, channel) = before(&[&members[0], &members[1]]).await;
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let client = Client::watch(&channel).await;
        clients.spawn(follow(client, n, LAST));
    }
    while store.write() < LAST {
        let revision = *store.revision.borrow();
        if revision % 100 == 0 {
            members[(revision / 100 % 2) as usize].cut();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

/// A client with a few watches, to the last revision.
async fn follow(mut client: Client, n: usize, last: i64) {
    let mut next: BTreeMap<i64, Option<i64>> = BTreeMap::new();
    for id in 0..=(n % 3) as i64 {
        let start = [0, 2, 5, 9][n % 4];
        client.send(create("a", id, start)).await;
        next.insert(id, (start != 0).then_some(start));
    }
    let mut received = 0;
    while next
        .values()
        .any(|next| next.is_none_or(|next| next <= last))
    {
        let response = client.take().await;
        received += 1;
        if n % 5 == 1 && received % 100 == 0 {
            let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            client.send(request(progress)).await;
        }
        if n % 7 == 2 && received % 60 == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if response.watch_id == -1 {
            let bookmark = response.header.unwrap().revision;
            let behind = next.values().flatten().any(|next| *next <= bookmark);
            assert!(!behind, "client {n}: a bookmark before its events");
            continue;
        }
        let next = next.get_mut(&response.watch_id).unwrap();
        if response.created {
            next.get_or_insert(response.header.unwrap().revision + 1);
            continue;
        }
        assert_eq!(
            response,
            event(response.watch_id, next.unwrap(), 3000),
            "client {n}"
        );
        *next = next.map(|next| next + 1);
    }
}
