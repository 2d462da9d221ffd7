//! The clients of a hub.

use keelson_proto as pb;

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::grpc_methods::Kind;
use crate::h2::call::CallHead;

/// A hub without a stream.
pub(in crate::h2) fn hub() -> Arc<Hub> {
    let watch = SharedWatch {
        fields: Bytes::new(),
        form: Bytes::new(),
    };
    Arc::new(Hub::new(watch, Counter::default()))
}

/// A call without a member.
pub(in crate::h2) fn call() -> Arc<Call> {
    let config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    let proxy = Arc::new(Context::new(config, vec![]));
    let client = Arc::new(ClientSession::new([0, 0]));
    let head = CallHead {
        fields: Bytes::new(),
        kind: Kind::of("/etcdserverpb.Watch/Watch"),
        timeout: None,
    };
    Call::new(&proxy, &client, 1, head)
}

/// It would wait for the hub for ever.
#[test]
fn a_stream_that_joins_after_the_others_have_left_is_refused() {
    let (hub, [one, late]) = (hub(), [call(), call()]);
    assert!(hub.add_client(&one, 2));
    hub.end();
    // It has ended, and its clients have not left yet.
    assert!(hub.add_client(&late, 1));
    assert_eq!(hub.watches(), 3);
    assert_eq!(hub.close().len(), 2);
    for call in [&one, &late] {
        hub.remove_client(call);
        assert!(!hub.add_client(call, 1));
    }
    assert_eq!((hub.watches(), hub.has_clients()), (0, false));
}

#[test]
fn only_clients_that_have_read_are_served_unless_there_is_more_for_all() {
    let (hub, [one, other]) = (hub(), [call(), call()]);
    for call in [&one, &other] {
        assert!(hub.add_client(call, 1));
    }
    assert_eq!(hub.clients(false).len(), 2);
    assert_eq!(hub.clients(false).len(), 0);
    hub.wake(&one);
    hub.wake(&one);
    assert_eq!(hub.clients(false).len(), 1);
    assert_eq!(hub.clients(true).len(), 2);
    hub.remove_client(&one);
    hub.wake(&one);
    assert_eq!(hub.clients(false).len(), 0);
}

/// A response of a watch, with the revision of its header and of its events.
pub(in crate::h2) fn response(revision: i64, events: &[i64], size: usize) -> Vec<u8> {
    let event = |revision: &i64| pb::mvccpb::Event {
        kv: Some(pb::mvccpb::KeyValue {
            mod_revision: *revision,
            value: vec![7; size].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let response = pb::etcdserverpb::WatchResponse {
        header: Some(pb::etcdserverpb::ResponseHeader {
            revision,
            ..Default::default()
        }),
        created: events.is_empty(),
        events: events.iter().map(event).collect(),
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&response);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message].concat()
}

/// A live hub, and the cursor of a client that has the events before revision 5.
pub(in crate::h2) fn live() -> (Arc<Hub>, u64) {
    let hub = hub();
    hub.receive(&response(4, &[], 0));
    assert!(hub.is_live());
    let cursor = hub.cursor(5).unwrap();
    (hub, cursor)
}

/// The clients of a hub have left, and its end is not visible yet.
pub(in crate::h2) fn closed() -> Arc<Hub> {
    let (hub, _) = live();
    hub.close();
    hub
}

/// Its clients would continue after events that they have not received.
#[test]
fn what_an_ended_hub_has_not_received_moves_no_position() {
    let (hub, cursor) = live();
    hub.note_reached(20);
    assert_eq!(hub.position(cursor, 5), 21);
    hub.end();
    hub.receive(&response(30, &[30], 1));
    hub.note_reached(30);
    assert_eq!(hub.position(cursor, 5), 21);
}

#[test]
fn a_response_that_is_not_shared_moves_no_position() {
    let large = response(30, &[30], 300 * 1024);
    for (received, unusable) in [(&large[..], true), (&[1, 0, 0, 0, 0], false)] {
        let (hub, mut cursor) = live();
        assert!(hub.add_client(&call(), 1));
        hub.note_reached(20);
        hub.receive(received);
        hub.note_reached(30);
        assert!(!hub.is_open());
        assert_eq!(hub.take(&mut cursor, 5), Next::Gone);
        assert_eq!(hub.position(cursor, 5), 21);
        assert_eq!(hub.was_unusable(), unusable);
    }
}
