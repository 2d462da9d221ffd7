//! The clients of a hub.

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::grpc_methods::Kind;
use crate::h2::call::CallHead;

/// A hub without a stream.
pub(in crate::h2::shared) fn hub() -> Arc<Hub> {
    let watch = SharedWatch {
        fields: Bytes::new(),
        form: Bytes::new(),
    };
    Arc::new(Hub::new(watch, Counter::default()))
}

/// A call without a member.
pub(in crate::h2::shared) fn call() -> Arc<Call> {
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
