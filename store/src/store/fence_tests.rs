//! A member whose state differs, and for which there is no leader that could heal it.

use std::path::Path;
use std::time::Duration;

use keelson_core::state::HASH_SCHEME;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{AlarmRequest, PutRequest, WatchCreateRequest};
use keelson_proto::internal::HashCheck;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::hash_check::Step;

use crate::check::check_directory;
use crate::snapshot::{self, ExportError};
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
    let mut watch = store.watch(WatchCreateRequest {
        key: "k".into(),
        ..WatchCreateRequest::default()
    });
    assert!(watch.next().await.unwrap().created);
    check(&store, Step::Begin, 0).await;
    check(&store, Step::Compare, 0).await;
    let compared = applied(&store);
    check(&store, Step::Verdict, compared).await;
    assert!(store.view().is_fenced());
    // It would wait for events that are not applied here.
    let ended = tokio::time::timeout(Duration::from_secs(60), watch.next());
    let ended = ended.await.expect("it ends").map(drop);
    assert_eq!(ended, Err(Error::State(StateError::Corrupt)));
    drop(watch);
    let read = store.read_index().await;
    assert_eq!(read, Err(Error::State(StateError::Corrupt)));
    store.shutdown().await;
    drop(store);
    is_refused_when_stopped(dir.path());

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

/// Its data were exported as if they were the cluster's.
fn is_refused_when_stopped(dir: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let report = check_directory(dir, None, &mut || Ok(scratch.path().to_owned())).unwrap();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(report.damaged[0].contains("differs from the majority's"));
    let exported = snapshot::of_stopped(dir, None, &scratch.path().join("file"));
    let refused = exported.unwrap_err();
    assert!(matches!(refused, ExportError::Differs { .. }), "{refused}");
}
