//! Watches and keepalives of the v3 API whose member fails.

use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::mvccpb;
use keelson_proxy::MembersFrom;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::support::{Peer, Running, Side, StreamingMember, config, get};

pub(crate) type Client = Side<pb::WatchResponse, pb::WatchRequest>;
pub(crate) type Member = Peer<pb::WatchRequest, pb::WatchResponse>;

/// A proxy before these members, and a connection to it.
pub(crate) async fn before(members: &[&StreamingMember]) -> (Running, Channel) {
    let mut config = config(&[]);
    let urls = members.iter().map(|one| format!("http://{}", one.address));
    config.members = MembersFrom::Clients(urls.collect());
    // Streams end after it; a busy machine may take a while for a connection.
    config.request_timeout = Duration::from_secs(6);
    let proxy = Running::start(config).await.knows(members.len()).await;
    let url = format!("http://{}", proxy.address);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    (proxy, channel)
}

pub(crate) fn header(revision: i64, raft_term: u64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: 7,
        member_id: 1,
        revision,
        raft_term,
    })
}

pub(crate) fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(union),
    }
}

pub(crate) fn create(key: &str, watch_id: i64, start_revision: i64) -> pb::WatchRequest {
    request(RequestUnion::CreateRequest(pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: "z".into(),
        prev_kv: true,
        watch_id,
        start_revision,
        ..Default::default()
    }))
}

pub(crate) fn created(watch_id: i64, revision: i64) -> pb::WatchResponse {
    pb::WatchResponse {
        header: header(revision, 2),
        watch_id,
        created: true,
        ..Default::default()
    }
}

pub(crate) fn events(watch_id: i64, revisions: &[i64]) -> pb::WatchResponse {
    let event = |revision: &i64| mvccpb::Event {
        kv: Some(mvccpb::KeyValue {
            key: "a".into(),
            mod_revision: *revision,
            value: "x".repeat(40).into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    pb::WatchResponse {
        header: header(revisions.iter().copied().max().unwrap(), 2),
        watch_id,
        events: revisions.iter().map(event).collect(),
        ..Default::default()
    }
}

/// A stream of watches, the member that has it, and the other member.
struct Begun {
    proxy: Running,
    client: Client,
    member: Member,
    on: StreamingMember,
    other: StreamingMember,
}

/// Begins a stream with a watch with id 0, created at revision 4.
async fn begin() -> Begun {
    let members = [
        StreamingMember::start().await,
        StreamingMember::start().await,
    ];
    let [one, other] = &members;
    let (proxy, channel) = before(&[one, other]).await;
    let client = Client::watch(&channel).await;
    let (member, first) = tokio::select! {
        member = one.watch() => (member, true),
        member = other.watch() => (member, false),
    };
    let [one, other] = members;
    let (on, other) = if first { (one, other) } else { (other, one) };
    let mut begun = Begun {
        proxy,
        client,
        member,
        on,
        other,
    };
    begun.create(create("a", 0, 0), created(0, 4)).await;
    begun
}

impl Begun {
    async fn create(&mut self, request: pb::WatchRequest, response: pb::WatchResponse) {
        self.client.send(request.clone()).await;
        assert_eq!(self.member.take().await, request);
        self.pass(response).await;
    }

    /// The member sends this, and the client receives it.
    async fn pass(&mut self, response: pb::WatchResponse) {
        self.member.send(Ok(response.clone())).await;
        assert_eq!(self.client.take().await, response);
    }

    /// The member dies; the other one has the stream.
    async fn fail_over(&mut self) {
        self.on.kill().await;
        self.member = self.other.watch().await;
    }

    async fn ends_as(&mut self, code: Code) {
        let ended = self.client.next().await;
        assert_eq!(ended.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn a_watch_continues_on_another_member_after_its_last_event() {
    let mut begun = begin().await;
    begun.pass(events(0, &[5, 6, 6])).await;
    begun.fail_over().await;
    assert_eq!(begun.member.take().await, create("a", 0, 7));
    begun.member.send(Ok(created(0, 9))).await;
    // The creation has been answered before.
    begun.pass(events(0, &[8])).await;
    begun.pass(events(0, &[10])).await;
}

#[tokio::test]
async fn a_watch_without_events_continues_after_its_creation() {
    let mut begun = begin().await;
    begun.create(create("b", 7, 2), created(7, 4)).await;
    begun.fail_over().await;
    assert_eq!(begun.member.take().await, create("a", 0, 5));
    assert_eq!(begun.member.take().await, create("b", 7, 2));
}

#[tokio::test]
async fn progress_moves_the_position_of_watches() {
    let mut begun = begin().await;
    begun.create(create("b", 7, 30), created(7, 4)).await;
    begun
        .client
        .send(request(RequestUnion::ProgressRequest(
            pb::WatchProgressRequest {},
        )))
        .await;
    begun.member.take().await;
    begun
        .pass(pb::WatchResponse {
            header: header(20, 2),
            watch_id: -1,
            ..Default::default()
        })
        .await;
    begun.fail_over().await;
    assert_eq!(begun.member.take().await, create("a", 0, 21));
    assert_eq!(begun.member.take().await, create("b", 7, 30));
}

/// The requests without an answer come again in their order, after the watches.
#[tokio::test]
async fn unanswered_requests_are_sent_to_the_other_member() {
    let mut begun = begin().await;
    begun.create(create("b", 3, 0), created(3, 4)).await;
    let cancel = |watch_id| {
        request(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id,
        }))
    };
    let progress = request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    let unanswered = [
        cancel(3),
        create("c", 0, 0),
        create("d", 9, 2),
        cancel(9),
        progress,
    ];
    for request in &unanswered {
        begun.client.send(request.clone()).await;
        assert_eq!(&begun.member.take().await, request);
    }
    begun.fail_over().await;
    assert_eq!(begun.member.take().await, create("a", 0, 5));
    assert_eq!(begun.member.take().await, create("b", 3, 5));
    for request in &unanswered {
        assert_eq!(&begun.member.take().await, request);
    }
    for id in [0, 3] {
        begun.member.send(Ok(created(id, 4))).await;
    }
    let cancelled = |watch_id| pb::WatchResponse {
        header: header(4, 2),
        watch_id,
        canceled: true,
        ..Default::default()
    };
    begun.pass(cancelled(3)).await;
    begun.pass(created(1, 4)).await;
    begun.pass(created(9, 4)).await;
    begun.pass(cancelled(9)).await;
}

/// The next stream of the client's only other member.
async fn again(begun: &mut Begun) {
    begun.member = begun.other.watch().await;
    assert_eq!(begun.member.take().await, create("a", 0, 6));
}

#[tokio::test]
async fn a_member_that_is_behind_the_client_does_not_continue_a_watch() {
    let mut begun = begin().await;
    begun.pass(events(0, &[5])).await;
    begun.on.kill().await;
    again(&mut begun).await;
    begun.member.send(Ok(created(0, 4))).await;
    again(&mut begun).await;
    let mut old_term = created(0, 5);
    old_term.header = header(5, 1);
    begun.member.send(Ok(old_term)).await;
    again(&mut begun).await;
    begun.member.send(Ok(created(0, 5))).await;
    begun.pass(events(0, &[6])).await;
}

#[tokio::test]
async fn a_watch_in_the_middle_of_fragments_ends() {
    let mut begun = begin().await;
    let mut fragment = events(0, &[5]);
    fragment.fragment = true;
    begun.pass(fragment).await;
    begun.on.kill().await;
    begun.ends_as(Code::Unavailable).await;
}

#[tokio::test]
async fn a_watch_whose_fragments_are_complete_continues() {
    let mut begun = begin().await;
    let mut fragment = events(0, &[5]);
    fragment.fragment = true;
    begun.pass(fragment).await;
    begun.pass(events(0, &[6])).await;
    begun.fail_over().await;
    assert_eq!(begun.member.take().await, create("a", 0, 7));
}

#[tokio::test]
async fn a_compaction_since_reaches_the_client() {
    let mut begun = begin().await;
    begun.fail_over().await;
    begun.member.take().await;
    begun.member.send(Ok(created(0, 30))).await;
    begun
        .pass(pb::WatchResponse {
            header: header(0, 2),
            canceled: true,
            compact_revision: 20,
            ..Default::default()
        })
        .await;
}

#[tokio::test]
async fn a_watch_that_cannot_be_continued_ends_as_unavailable() {
    let mut refused = created(-1, 9);
    refused.canceled = true;
    let mut other_cluster = created(0, 9);
    other_cluster.header.as_mut().unwrap().cluster_id = 8;
    for response in [refused, other_cluster, created(4, 9)] {
        let mut begun = begin().await;
        begun.fail_over().await;
        begun.member.take().await;
        begun.member.send(Ok(response)).await;
        begun.ends_as(Code::Unavailable).await;
    }
}

#[tokio::test]
async fn a_watch_ends_as_unavailable_when_no_member_is_left() {
    let mut begun = begin().await;
    begun.other.kill().await;
    begun.on.kill().await;
    begun.ends_as(Code::Unavailable).await;
}

#[tokio::test]
async fn a_watch_leaves_a_member_that_answers_no_more_although_its_connection_is_open() {
    let mut begun = begin().await;
    begun.on.hang();
    // A slow read has its member probed.
    let proxy = begun.proxy.address;
    let read = tokio::spawn(async move { get(proxy, "/v2/keys/a").await });
    begun.member = begun.other.watch().await;
    assert_eq!(begun.member.take().await, create("a", 0, 5));
    begun.member.send(Ok(created(0, 9))).await;
    begun.pass(events(0, &[8])).await;
    read.await.unwrap();
}

/// A member that shuts down, and one that cannot serve this client.
#[tokio::test]
async fn a_member_that_ends_a_watch_as_unavailable_is_replaced_and_others_are_not() {
    let mut begun = begin().await;
    let stopped = Status::unavailable("etcdserver: server stopped");
    begun.member.send(Err(stopped)).await;
    begun.member = tokio::select! {
        member = begun.on.watch() => member,
        member = begun.other.watch() => member,
    };
    assert_eq!(begun.member.take().await, create("a", 0, 5));
    begun.member.send(Ok(created(0, 9))).await;
    begun.pass(events(0, &[8])).await;
    let no_leader = Status::unavailable("etcdserver: no leader");
    begun.member.send(Err(no_leader)).await;
    let ended = begun.client.next().await.unwrap_err();
    assert_eq!(ended.message(), "etcdserver: no leader");
    let mut begun = begin().await;
    let refused = Status::permission_denied("etcdserver: permission denied");
    begun.member.send(Err(refused)).await;
    begun.ends_as(Code::PermissionDenied).await;
}

#[tokio::test]
async fn keepalives_without_an_answer_are_sent_to_another_member() {
    let members = [
        StreamingMember::start().await,
        StreamingMember::start().await,
    ];
    let [one, other] = &members;
    let (_proxy, channel) = before(&[one, other]).await;
    type Client = Side<pb::LeaseKeepAliveResponse, pb::LeaseKeepAliveRequest>;
    let mut client = Client::keepalive(&channel).await;
    let (mut member, on, other) = tokio::select! {
        member = one.keepalive() => (member, one, other),
        member = other.keepalive() => (member, other, one),
    };
    for id in [1, 2, 3] {
        client.send(pb::LeaseKeepAliveRequest { id }).await;
        assert_eq!(member.take().await.id, id);
    }
    let renewed = |id, ttl| pb::LeaseKeepAliveResponse {
        header: header(4, 2),
        id,
        ttl,
    };
    member.send(Ok(renewed(1, 60))).await;
    assert_eq!(client.take().await, renewed(1, 60));
    on.kill().await;
    let mut member = other.keepalive().await;
    for id in [2, 3] {
        assert_eq!(member.take().await.id, id);
        member.send(Ok(renewed(id, 50))).await;
        assert_eq!(client.take().await, renewed(id, 50));
    }
    client.send(pb::LeaseKeepAliveRequest { id: 4 }).await;
    assert_eq!(member.take().await.id, 4);
    client.close();
    assert_eq!(member.next().await.unwrap(), None);
    member.send(Ok(renewed(4, 0))).await;
    assert_eq!(client.take().await, renewed(4, 0));
    member.close();
    assert_eq!(client.next().await.unwrap(), None);
}
