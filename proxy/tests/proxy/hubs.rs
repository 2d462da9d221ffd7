//! Streams that move to shared watches and from them, while their member is under control.

use futures_util::future::join_all;
use keelson_proto::etcdserverpb as pb;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use tonic::Status;

use crate::resumption::{Client, Member, before, create, created, events, request};
use crate::sharing::{begin, progress, receive};
use crate::support::{Running, StreamingMember, until};

/// Two clients with equal watches, their streams at the member, and that of the shared watch.
struct Shared {
    member: StreamingMember,
    clients: [Client; 2],
    peers: [Member; 2],
    hub: Member,
    _proxy: Running,
}

fn progress_request() -> pb::WatchRequest {
    request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
}

fn cancelled(watch_id: i64) -> pb::WatchResponse {
    let mut response = created(watch_id, 4);
    (response.created, response.canceled) = (false, true);
    response
}

async fn created_at(member: &StreamingMember, client: &mut Client, id: i64) -> Member {
    client.send(create("a", id, 0)).await;
    let mut peer = member.watch().await;
    assert_eq!(peer.take().await, create("a", id, 0));
    peer.send(Ok(created(id, 4))).await;
    assert_eq!(client.take().await, created(id, 4));
    peer
}

/// The streams are about to join: the member's progress was requested, and is not answered.
async fn joining() -> Shared {
    let member = StreamingMember::start().await;
    let (proxy, channel) = before(&[&member]).await;
    let mut clients = [Client::watch(&channel).await, Client::watch(&channel).await];
    let mut peers = [
        created_at(&member, &mut clients[0], 3).await,
        created_at(&member, &mut clients[1], 0).await,
    ];
    let mut hub = member.watch().await;
    assert_eq!(hub.take().await, create("a", 0, 0));
    hub.send(Ok(created(0, 4))).await;
    for peer in &mut peers {
        assert_eq!(peer.take().await, progress_request());
    }
    Shared {
        member,
        clients,
        peers,
        hub,
        _proxy: proxy,
    }
}

/// The shared watch serves the streams.
async fn joined() -> Shared {
    let mut shared = joining().await;
    for peer in &mut shared.peers {
        peer.send(Ok(progress(4))).await;
        until("the stream has moved", async || peer.is_closed()).await;
    }
    shared
}

impl Shared {
    /// The member states to the hub what it has sent, and the proxy takes it.
    async fn reach(&mut self, revision: i64) {
        assert_eq!(self.hub.take().await, progress_request());
        self.hub.send(Ok(progress(revision))).await;
        // It is requested again once it is answered.
        assert_eq!(self.hub.take().await, progress_request());
    }
}

/// The id of a watch that was cancelled means another one.
#[tokio::test]
async fn a_stream_whose_watches_change_while_it_joins_receives_the_events_of_the_new_ones() {
    let mut shared = joining().await;
    let (client, peer) = (&mut shared.clients[0], &mut shared.peers[0]);
    let cancel = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 3 });
    for (sent, answer) in [
        (request(cancel), cancelled(3)),
        (create("b", 3, 0), created(3, 4)),
    ] {
        client.send(sent.clone()).await;
        assert_eq!(peer.take().await, sent);
        peer.send(Ok(answer.clone())).await;
        assert_eq!(client.take().await, answer);
    }
    peer.send(Ok(progress(4))).await;
    // The other stream moves.
    let other = &mut shared.peers[1];
    other.send(Ok(progress(4))).await;
    until("it has moved", async || other.is_closed()).await;
    shared.hub.send(Ok(events(0, &[5]))).await;
    assert_eq!(shared.clients[1].take().await, events(0, &[5]));
    let (client, peer) = (&mut shared.clients[0], &mut shared.peers[0]);
    peer.send(Ok(events(3, &[6]))).await;
    assert_eq!(client.take().await, events(3, &[6]));
}

#[tokio::test]
async fn streams_whose_hub_ends_while_they_join_stay_on_their_member() {
    let mut shared = joining().await;
    shared.hub.send(Ok(cancelled(0))).await;
    until("the hub has ended", async || shared.hub.is_closed()).await;
    for (n, id) in [(0, 3), (1, 0)] {
        shared.peers[n].send(Ok(progress(4))).await;
        shared.peers[n].send(Ok(events(id, &[5]))).await;
        assert_eq!(shared.clients[n].take().await, events(id, &[5]));
    }
}

#[tokio::test]
async fn streams_whose_hub_ends_continue_with_watches_of_their_own() {
    let mut shared = joined().await;
    shared.reach(70).await;
    shared.hub.send(Ok(cancelled(0))).await;
    let mut found = vec![];
    for _ in 0..2 {
        let mut peer = shared.member.watch().await;
        found.push(peer.take().await);
        let id = if found.last() == Some(&create("a", 3, 71)) {
            3
        } else {
            0
        };
        peer.send(Ok(created(id, 80))).await;
        peer.send(Ok(events(id, &[75]))).await;
        let client = &mut shared.clients[usize::from(id == 0)];
        assert_eq!(client.take().await, events(id, &[75]));
        shared.peers[usize::from(id == 0)] = peer;
    }
    assert!(found.contains(&create("a", 0, 71)), "{found:?}");
    assert!(found.contains(&create("a", 3, 71)), "{found:?}");
}

/// The revisions of its range's events may be compacted by then.
#[tokio::test]
async fn a_quiet_watch_that_leaves_its_hub_continues_from_what_the_hub_has_reached() {
    let mut shared = joined().await;
    shared.reach(1000).await;
    shared.clients[0].send(create("b", 9, 0)).await;
    let mut peer = shared.member.watch().await;
    assert_eq!(peer.take().await, create("a", 3, 1001));
    assert_eq!(peer.take().await, create("b", 9, 0));
    // The other stream, with an event that the first one has not received.
    shared.hub.send(Ok(events(0, &[1005]))).await;
    assert_eq!(shared.clients[1].take().await, events(0, &[1005]));
    peer.send(Ok(created(3, 1005))).await;
    peer.send(Ok(events(3, &[1005]))).await;
    assert_eq!(shared.clients[0].take().await, events(3, &[1005]));
}

#[tokio::test]
async fn a_quiet_hub_continues_from_what_its_member_has_stated() {
    let mut shared = joined().await;
    shared.reach(1000).await;
    shared.member.cut();
    let mut hub = shared.member.watch().await;
    assert_eq!(hub.take().await, create("a", 0, 1001));
    hub.send(Ok(created(0, 1002))).await;
    hub.send(Ok(events(0, &[1002]))).await;
    for (client, id) in shared.clients.iter_mut().zip([3, 0]) {
        assert_eq!(client.take().await, events(id, &[1002]));
    }
}

/// The leader has failed: the other members have none for a moment.
#[tokio::test]
async fn a_hub_waits_for_an_election_after_its_member_has_failed() {
    let mut shared = joined().await;
    shared.member.cut();
    let no_leader = || Err(Status::unavailable("etcdserver: no leader"));
    for _ in 0..3 {
        let mut hub = shared.member.watch().await;
        assert_eq!(hub.take().await, create("a", 0, 5));
        hub.send(no_leader()).await;
    }
    let mut hub = shared.member.watch().await;
    assert_eq!(hub.take().await, create("a", 0, 5));
    hub.send(Ok(created(0, 9))).await;
    hub.send(Ok(events(0, &[8]))).await;
    for (client, id) in shared.clients.iter_mut().zip([3, 0]) {
        assert_eq!(client.take().await, events(id, &[8]));
    }
    // A member that has served the stream has waited for a leader.
    hub.send(no_leader()).await;
    let mut peers = vec![];
    for _ in 0..2 {
        let mut peer = shared.member.watch().await;
        let resumed = peer.take().await;
        let own = [create("a", 3, 9), create("a", 0, 9)];
        assert!(own.contains(&resumed), "{resumed:?}");
        peers.push(peer);
    }
}

/// Each stream would have to keep a copy: it receives the event from a member.
#[tokio::test]
async fn a_large_event_reaches_every_stream_of_a_shared_watch() {
    const SIZE: usize = 1_000_000;
    const CLIENTS: usize = 40;
    let (store, _member, _proxy, mut clients) = begin(SIZE, CLIENTS).await;
    store.has(1, 1).await;
    for revision in 5..=6 {
        store.write();
        // They share a connection: one that does not read would hold up the others.
        let all = clients.chunks_mut(1);
        join_all(all.map(|one| receive(one, revision, revision, SIZE))).await;
    }
}
