//! A member whose state differs, and for which there is no leader that could heal it.

use std::time::Duration;

use keelson_core::state::HASH_SCHEME;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{AlarmRequest, PutRequest};
use keelson_proto::internal::HashCheck;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::hash_check::Step;

use crate::{Config, Error, StateError, Store};

async fn check(store: &Store, step: Step, index: u64) {
    let check = HashCheck {
        step: step.into(),
        scheme: HASH_SCHEME,
        index,
        value: 1,
    };
    // The outcome of a verdict against this member is an error.
    let _ = store.propose(Op::HashCheck(check)).await;
}

fn applied(store: &Store) -> u64 {
    store.view().applied_index().0
}

/// The restarted one waited for its own publication, and answered nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_member_is_ready_to_refuse_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::single("alone", dir.path());
    let store = Store::open(config.clone()).await.unwrap();
    store.ready().await;
    check(&store, Step::Begin, 0).await;
    check(&store, Step::Compare, 0).await;
    let compared = applied(&store);
    check(&store, Step::Verdict, compared).await;
    assert!(store.view().is_fenced());
    let read = store.read_index().await;
    assert_eq!(read, Err(Error::State(StateError::Corrupt)));
    store.shutdown().await;
    drop(store);

    let store = Store::open(config).await.unwrap();
    let ready = tokio::time::timeout(Duration::from_secs(60), store.ready());
    ready.await.expect("it answers");
    assert!(!store.status().errors.is_empty());
    let refused = store.put(PutRequest::default()).await;
    assert!(matches!(refused, Err(Error::State(_))), "{refused:?}");
    let listing = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..AlarmRequest::default()
    };
    assert_eq!(store.alarm(listing).await.unwrap().alarms, []);
    store.shutdown().await;
}
