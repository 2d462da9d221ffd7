//! Requests of a stream that is not read any more.

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::grpc::requests::put_watch_request;
use crate::grpc_methods::Kind;
use crate::policy::resumption::{Create, StreamRequest};

/// A message that is no request of a watch.
const UNREADABLE: &[u8] = &[0, 0, 0, 0, 1, 0x0b];

/// A stream of watches that waits for a member.
fn waiting() -> Arc<Call> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::from_secs(3600);
    let proxy = Arc::new(Context::new(config, vec![]));
    let client = Arc::new(ClientSession::new([0, 0]));
    let head = CallHead {
        fields: Bytes::new(),
        kind: Kind::of("/etcdserverpb.Watch/Watch"),
        timeout: None,
    };
    let call = Call::new(&proxy, &client, 1, head);
    call.begin(false);
    call
}

fn create(key: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let create = Create {
        encoded: [&[0x0a, key.len() as u8], key].concat().into(),
        watch_id: 0,
        start_revision: 0,
    };
    put_watch_request(&mut out, &StreamRequest::Create(create));
    out
}

/// Leaves no memory for what continues the client's streams.
fn exhaust(call: &Call) {
    let kept = &call.client.quota.kept_streams;
    let mut bytes = 8 * 1024 * 1024;
    while 0 < bytes {
        if !memory::take(&call.proxy.kept_streams, kept, bytes) {
            bytes /= 2;
        }
    }
}

#[tokio::test]
async fn requests_before_one_that_cannot_be_read_are_sent_once() {
    let call = waiting();
    let sent = [create(b"a"), create(b"b"), UNREADABLE.into(), create(b"c")];
    call.data(&sent[0], false);
    assert_eq!(call.shared.lock().body, b""[..]);
    call.data(&sent[1..].concat(), false);
    assert_eq!(call.shared.lock().body, sent.concat());
}

#[tokio::test]
async fn requests_without_memory_for_their_state_are_sent_once() {
    for end in [false, true] {
        let call = waiting();
        let (one, two) = (create(b"a"), create(b"b"));
        call.data(&one, false);
        exhaust(&call);
        // With the beginning of the next one.
        let sent = [&two[..], &one[..3]].concat();
        call.data(&sent, end);
        assert_eq!(call.shared.lock().body, [&one[..], &sent].concat(), "{end}");
    }
}
