//! `Watch` over gRPC.

use bytes::Bytes;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{Port, within};

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

fn create(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

/// A call, both directions of it.
struct Call {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Call {
    async fn start(port: &Port) -> Call {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = WatchClient::new(port.channel().await);
        let responses = client.watch(ReceiverStream::new(receiver)).await.unwrap();
        Call {
            requests,
            responses: responses.into_inner(),
        }
    }

    async fn send(&self, union: RequestUnion) {
        self.requests.send(request(union)).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        within(self.responses.message())
            .await
            .unwrap()
            .expect("goes on")
    }
}

async fn put(port: &Port, key: &str, value: impl Into<Bytes>) {
    let put = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..PutRequest::default()
    };
    port.kv().await.put(put).await.unwrap();
}

#[tokio::test]
async fn events_come_as_they_happen_and_from_the_past() {
    let port = Port::start().await;
    put(&port, "a", "1").await;
    let mut call = Call::start(&port).await;
    call.send(RequestUnion::CreateRequest(WatchCreateRequest {
        prev_kv: true,
        ..create("a", 2)
    }))
    .await;
    let created = call.next().await;
    assert!(created.created);
    let header = created.header.unwrap();
    assert_eq!((header.revision, header.raft_term), (2, 2));
    let past = call.next().await;
    assert_eq!(past.events[0].kv.as_ref().unwrap().value, "1");
    put(&port, "other", "1").await;
    put(&port, "a", vec![b'x'; 60_000]).await;
    let event = call.next().await;
    assert_eq!(event.header.unwrap().revision, 4);
    let [event] = &event.events[..] else {
        panic!("{event:?}")
    };
    assert_eq!(event.kv.as_ref().unwrap().value.len(), 60_000);
    assert_eq!(event.prev_kv.as_ref().unwrap().value, "1");
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    };
    port.kv().await.delete_range(delete).await.unwrap();
    let event = call.next().await.events.pop().unwrap();
    assert_eq!(event.r#type(), EventType::Delete);
    assert_eq!(event.kv.unwrap().mod_revision, 5);
    let cancel = WatchCancelRequest { watch_id: 0 };
    call.send(RequestUnion::CancelRequest(cancel)).await;
    let cancelled = call.next().await;
    assert!(cancelled.canceled && cancelled.cancel_reason.is_empty());
}

/// etcd's gateway sends one request and ends its side.
#[tokio::test]
async fn a_watch_goes_on_after_its_client_has_sent_its_last_request() {
    let port = Port::start().await;
    let Call {
        requests,
        mut responses,
    } = Call::start(&port).await;
    let union = RequestUnion::CreateRequest(create("a", 0));
    requests.send(request(union)).await.unwrap();
    drop(requests);
    assert!(within(responses.message()).await.unwrap().unwrap().created);
    put(&port, "a", "1").await;
    let events = within(responses.message()).await.unwrap().unwrap().events;
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn progress_is_sent_on_request_and_periodically() {
    let port = Port::start().await;
    let mut call = Call::start(&port).await;
    call.send(RequestUnion::CreateRequest(WatchCreateRequest {
        progress_notify: true,
        watch_id: 7,
        ..create("a", 0)
    }))
    .await;
    assert!(call.next().await.created);
    put(&port, "other", "1").await;
    let progress = call.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (7, 0));
    call.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
        .await;
    loop {
        let progress = call.next().await;
        if progress.watch_id == -1 {
            assert_eq!(progress.header.unwrap().revision, 2);
            break;
        }
    }
}

#[tokio::test]
async fn ten_thousand_watchers_on_one_stream_are_all_sent_an_event() {
    let port = Port::start().await;
    let mut call = Call::start(&port).await;
    let count = 10_000;
    for number in 0..count {
        call.send(RequestUnion::CreateRequest(create("a", 0))).await;
        let created = call.next().await;
        assert!(created.created && created.watch_id == number);
    }
    put(&port, "a", "1").await;
    for number in 0..count {
        let response = call.next().await;
        assert_eq!((response.watch_id, response.events.len()), (number, 1));
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_call_with_etcds_text() {
    let port = Port::start().await;
    let mut call = Call::start(&port).await;
    let mut large = create("a", 0);
    // Larger than a proposal and the overhead of gRPC.
    large.key = vec![b'k'; 2 << 20].into();
    call.send(RequestUnion::CreateRequest(large)).await;
    let ended = within(call.responses.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted);
    assert!(
        ended
            .message()
            .starts_with("grpc: received message larger than max")
    );
}

/// Clients of a member without a leader would otherwise wait for events that do not come.
#[tokio::test]
async fn a_watch_that_requires_a_leader_ends_without_one_and_others_go_on() {
    let port = Port::start().await;
    let mut goes_on = Call::start(&port).await;
    goes_on
        .send(RequestUnion::CreateRequest(create("a", 0)))
        .await;
    assert!(goes_on.next().await.created);
    let (requests, receiver) = mpsc::channel(16);
    let mut strict = tonic::Request::new(ReceiverStream::new(receiver));
    let metadata = strict.metadata_mut();
    metadata.insert("hasleader", "true".parse().unwrap());
    let mut client = WatchClient::new(port.channel().await);
    let mut strict = client.watch(strict).await.unwrap().into_inner();
    let create_request = RequestUnion::CreateRequest(create("a", 0));
    requests.send(request(create_request)).await.unwrap();
    assert!(within(strict.message()).await.unwrap().unwrap().created);
    port.fake.set(|state| state.leaderless = true);
    let ended = within(strict.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert_eq!(ended.message(), "etcdserver: no leader");
    port.fake.set(|state| state.leaderless = false);
    put(&port, "a", "1").await;
    assert_eq!(goes_on.next().await.events.len(), 1);
}

/// Its events may be wrong. clientv3 watches again, at another member, after Unavailable.
#[tokio::test]
async fn the_watches_and_logins_of_a_member_that_differs_end() {
    let port = Port::start().await;
    let mut call = Call::start(&port).await;
    call.send(RequestUnion::CreateRequest(create("a", 0))).await;
    assert!(call.next().await.created);
    port.fake.fence();
    let ended = within(call.responses.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    let mut auth = auth_client::AuthClient::new(port.channel().await);
    let refused = within(auth.authenticate(AuthenticateRequest::default())).await;
    assert_eq!(refused.unwrap_err().code(), Code::DataLoss);
}
