//! Watches of users whose member fails.

use keelson_proto::etcdserverpb as pb;
use tonic::Code;

use crate::resumption::{Client, Member, before, create, created, events};
use crate::support::{Running, StreamingMember};

/// The stream of a user whose member has failed.
struct FailedOver {
    client: Client,
    /// The stream on the other member.
    stream: Member,
    other: StreamingMember,
    /// The proxy, and the member that has failed.
    _kept: (Running, StreamingMember),
}

async fn failed_over() -> FailedOver {
    let members = [
        StreamingMember::start().await,
        StreamingMember::start().await,
    ];
    let [one, other] = &members;
    let (proxy, channel) = before(&[one, other]).await;
    let mut client = Client::watch_with_token(&channel, "alice's").await;
    let (mut stream, is_first) = tokio::select! {
        stream = one.watch() => (stream, true),
        stream = other.watch() => (stream, false),
    };
    client.send(create("a", 0, 0)).await;
    stream.take().await;
    stream.send(Ok(created(0, 4))).await;
    assert!(client.take().await.created);
    let [one, other] = members;
    let (on, other) = if is_first { (one, other) } else { (other, one) };
    assert_eq!(on.tokens(), ["alice's"]);
    on.kill().await;
    FailedOver {
        client,
        stream: other.watch().await,
        other,
        _kept: (proxy, on),
    }
}

#[tokio::test]
async fn a_watch_continues_with_the_token_of_its_client() {
    let mut watch = failed_over().await;
    assert_eq!(watch.other.tokens(), ["alice's"]);
    assert_eq!(watch.stream.take().await, create("a", 0, 5));
    watch.stream.send(Ok(created(0, 9))).await;
    watch.stream.send(Ok(events(0, &[8]))).await;
    assert_eq!(watch.client.take().await, events(0, &[8]));
}

/// Its client begins it again, and is sent the member's refusal.
#[tokio::test]
async fn a_watch_whose_token_has_ended_meanwhile_ends() {
    let mut watch = failed_over().await;
    let refusal = pb::WatchResponse {
        watch_id: -1,
        canceled: true,
        cancel_reason: "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
            .to_owned(),
        ..created(0, 9)
    };
    watch.stream.take().await;
    watch.stream.send(Ok(refusal)).await;
    let ended = watch.client.next().await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}
