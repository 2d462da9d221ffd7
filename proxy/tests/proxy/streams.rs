//! Streams of the v3 API with both ends open.

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::resumption::{Client, Member, before, create, created, events, request};
use crate::support::{Running, StreamingMember, until};

/// A member behind a proxy, and one stream of watches.
async fn begin() -> (StreamingMember, Running, Channel, Client, Member) {
    let member = StreamingMember::start().await;
    let (proxy, channel) = before(&[&member]).await;
    let client = Client::watch(&channel).await;
    let peer = member.watch().await;
    (member, proxy, channel, client, peer)
}

/// An event with a value of this size.
fn event_of(revision: i64, size: usize) -> pb::WatchResponse {
    let mut response = events(0, &[revision]);
    let kv = response.events[0].kv.as_mut().unwrap();
    kv.value = vec![revision as u8; size].into();
    response
}

#[tokio::test]
async fn messages_of_all_sizes_pass_both_ways_while_both_ends_are_open() {
    let (_member, _proxy, _channel, mut client, mut peer) = begin().await;
    client.send(create("a", 0, 0)).await;
    peer.take().await;
    peer.send(Ok(created(0, 1))).await;
    client.take().await;
    for (n, size) in [0, 1, 20_000, 65_000, 70_000, 300_000, 3 << 20, 5]
        .iter()
        .enumerate()
    {
        let response = event_of(n as i64 + 2, *size);
        // The queue of the member ends with the windows between: it is read meanwhile.
        let (received, ()) = tokio::join!(client.take(), peer.send(Ok(response.clone())));
        assert!(received == response, "{size}");
        // Larger than what a watch's key can be.
        let request = create(&"k".repeat(size / 30), 3, 9);
        let (received, ()) = tokio::join!(peer.take(), client.send(request.clone()));
        assert!(received == request, "{size}");
    }
}

#[tokio::test]
async fn each_end_may_close_before_the_other() {
    let (member, _proxy, channel, mut client, mut peer) = begin().await;
    client.close();
    assert_eq!(peer.next().await.unwrap(), None);
    peer.send(Ok(created(0, 1))).await;
    assert_eq!(client.take().await, created(0, 1));
    peer.close();
    assert_eq!(client.next().await.unwrap(), None);
    let mut client = Client::watch(&channel).await;
    let mut peer = member.watch().await;
    // tonic's servers end the whole stream.
    peer.close();
    assert_eq!(client.next().await.unwrap(), None);
    drop(client);
    assert!(peer.next().await.is_err() || peer.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_resets_its_stream_ends_the_members() {
    let (_member, _proxy, _channel, client, mut peer) = begin().await;
    client.send(create("a", 0, 0)).await;
    peer.take().await;
    drop(client);
    until("the member's stream ends", async || {
        !peer.try_send(Ok(created(0, 1))) && peer.is_closed()
    })
    .await;
}

/// Neither the member nor the proxy holds what its client does not read.
#[tokio::test]
async fn a_watch_that_is_never_read_holds_back_its_member_and_no_other_watch() {
    const EVENT: usize = 10_000;
    let (member, _proxy, channel, client, peer) = begin().await;
    client.send(create("a", 0, 0)).await;
    peer.send(Ok(created(0, 1))).await;
    let mut sent = 0;
    let mut waited = 0;
    while waited < 50 {
        match peer.try_send(Ok(event_of(sent + 2, EVENT))) {
            true => {
                sent += 1;
                waited = 0;
            }
            false => waited += 1,
        }
        assert!(sent < 1000, "the member is not held back");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut other = Client::watch(&channel).await;
    let other_peer = member.watch().await;
    other_peer.send(Ok(created(0, 1))).await;
    assert_eq!(other.take().await, created(0, 1));
    // What was sent arrives once it is read, and the member goes on.
    let mut client = client;
    assert_eq!(client.take().await, created(0, 1));
    for n in 0..sent {
        assert!(client.take().await == event_of(n + 2, EVENT), "{n}");
    }
    peer.send(Ok(event_of(9, 1))).await;
    assert_eq!(client.take().await, event_of(9, 1));
}

#[tokio::test]
async fn a_thousand_streams_of_one_connection_pass_both_ways_and_move_together() {
    const STREAMS: i64 = 1000;
    let members = [
        StreamingMember::start().await,
        StreamingMember::start().await,
    ];
    let (_proxy, channel) = before(&[&members[0], &members[1]]).await;
    let mut clients = vec![];
    for n in 0..STREAMS {
        let client = Client::watch(&channel).await;
        // Equal watches would be shared.
        client.send(create(&format!("a{n}"), 0, n + 1)).await;
        clients.push(client);
    }
    let (mut peers, mut on) = (vec![], 0);
    for _ in 0..STREAMS {
        let (mut peer, member) = tokio::select! {
            peer = members[0].watch() => (peer, 0),
            peer = members[1].watch() => (peer, 1),
        };
        on = member;
        assert!(matches!(
            peer.take().await.request_union,
            Some(RequestUnion::CreateRequest(_))
        ));
        peer.send(Ok(created(0, 4))).await;
        peers.push(peer);
    }
    for client in &mut clients {
        assert_eq!(client.take().await, created(0, 4));
    }
    members[on].kill().await;
    let mut serving = JoinSet::new();
    for _ in 0..STREAMS {
        let mut peer = members[1 - on].watch().await;
        serving.spawn(async move {
            let union = peer.take().await.request_union;
            let Some(RequestUnion::CreateRequest(create)) = union else {
                panic!("{union:?}");
            };
            peer.send(Ok(created(0, 4))).await;
            peer.send(Ok(events(0, &[create.start_revision]))).await;
            peer
        });
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.take().await, events(0, &[n as i64 + 1]));
    }
    drop(clients);
    serving.join_all().await;
}

/// A member that shuts down sends GOAWAY first, and its streams go on.
#[tokio::test]
async fn streams_outlive_goaway_and_new_ones_use_another_connection() {
    let (member, _proxy, channel, mut client, mut peer) = begin().await;
    client.send(create("a", 0, 0)).await;
    peer.take().await;
    let member = member.drain();
    peer.send(Ok(created(0, 1))).await;
    assert_eq!(client.take().await, created(0, 1));
    client
        .send(request(RequestUnion::ProgressRequest(
            pb::WatchProgressRequest {},
        )))
        .await;
    peer.take().await;
    drop((channel, member));
    let ended = tonic::Status::cancelled("etcdserver: watch canceled");
    peer.send(Err(ended)).await;
    let ended = client.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Cancelled);
}

/// Time is advanced in small steps, in which the kernel delivers what both ends send.
#[tokio::test]
async fn a_quiet_watch_is_cut_by_no_timeout() {
    const STEP: Duration = Duration::from_millis(500);
    let (_member, _proxy, _channel, mut client, mut peer) = begin().await;
    client.send(create("a", 0, 0)).await;
    peer.take().await;
    peer.send(Ok(created(0, 1))).await;
    assert_eq!(client.take().await, created(0, 1));
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(1200) {
        tokio::time::advance(STEP).await;
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
    peer.send(Ok(events(0, &[2]))).await;
    assert_eq!(client.take().await, events(0, &[2]));
    let progress = request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    client.send(progress.clone()).await;
    assert_eq!(peer.take().await, progress);
}
