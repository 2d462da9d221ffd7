//! `hasleader: true` in the metadata of a stream: it ends when there is no leader for long.

use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tokio_stream::{StreamExt, iter, pending};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Streaming};

use super::{Port, within};

async fn watch(port: &Port, requires_leader: bool) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest {
        key: "key".into(),
        ..Default::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut request = Request::new(iter([create]).chain(pending()));
    if requires_leader {
        let value = MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", value);
    }
    let mut client = WatchClient::new(port.channel().await);
    let mut watch = client.watch(request).await.unwrap().into_inner();
    let created = within(watch.next()).await.unwrap().unwrap();
    assert!(created.created);
    watch
}

#[tokio::test]
async fn a_stream_that_requires_a_leader_ends_without_one_and_others_go_on() {
    let port = Port::start().await;
    let mut led = watch(&port, true).await;
    let mut other = watch(&port, false).await;
    port.fake.set(|condition| condition.leaderless = true);
    let ended = within(led.next()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert_eq!(ended.message(), "etcdserver: no leader");
    port.fake.set(|condition| condition.leaderless = false);
    let put = PutRequest {
        key: "key".into(),
        ..Default::default()
    };
    port.kv().await.put(put.clone()).await.unwrap();
    assert_eq!(within(other.next()).await.unwrap().unwrap().events.len(), 1);
    // With a leader a new one lasts.
    let mut led = watch(&port, true).await;
    port.kv().await.put(put).await.unwrap();
    assert_eq!(within(led.next()).await.unwrap().unwrap().events.len(), 1);
}
