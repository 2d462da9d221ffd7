//! The model's own rules.

use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::{CompactionRequest, Compare, PutRequest, RangeRequest};

use super::compare::holds;
use super::{Kv, Refusal, Request, Response};

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(PutRequest {
        key: key.into(),
        value: value.into(),
        prev_kv: true,
        ..PutRequest::default()
    })
}

fn range(key: &'static str, range_end: &'static str, revision: i64) -> Request {
    Request::Range(RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        revision,
        ..RangeRequest::default()
    })
}

fn values(response: Result<Response, Refusal>) -> Vec<Bytes> {
    match response {
        Ok(Response::Range(range)) => range.kvs.into_iter().map(|kv| kv.value).collect(),
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn versions_revisions_and_previous_values() {
    let mut kv = Kv::default();
    kv.apply(&put("a", "1")).unwrap();
    kv.apply(&put("b", "2")).unwrap();
    let Ok(Response::Put(response)) = kv.apply(&put("a", "3")) else {
        panic!("a put answers a put");
    };
    assert_eq!(response.header.unwrap().revision, 4);
    let previous = response.prev_kv.unwrap();
    assert_eq!((previous.mod_revision, previous.version), (2, 1));
    assert_eq!(values(kv.apply(&range("a", "c", 0))), ["3", "2"]);
    assert_eq!(values(kv.apply(&range("a", "c", 3))), ["1", "2"]);
    assert_eq!(values(kv.apply(&range("a", "", 2))), ["1"]);
    assert_eq!(kv.apply(&range("a", "", 5)), Err(Refusal::FutureRevision));
}

#[test]
fn reads_before_a_compaction_are_refused() {
    let mut kv = Kv::default();
    kv.apply(&put("a", "1")).unwrap();
    kv.apply(&put("a", "2")).unwrap();
    let compact = |revision| {
        Request::Compact(CompactionRequest {
            revision,
            physical: false,
        })
    };
    kv.apply(&compact(3)).unwrap();
    assert_eq!(kv.apply(&range("a", "", 2)), Err(Refusal::Compacted));
    assert_eq!(values(kv.apply(&range("a", "", 3))), ["2"]);
    assert_eq!(kv.apply(&compact(3)), Err(Refusal::Compacted));
    assert_eq!(kv.apply(&compact(4)), Err(Refusal::FutureRevision));
}

#[test]
fn a_missing_key_has_numbers_of_zero_and_no_value() {
    let compare = |target: CompareTarget, union| Compare {
        key: "a".into(),
        target: target.into(),
        target_union: Some(union),
        ..Compare::default()
    };
    let number = compare(CompareTarget::Mod, TargetUnion::ModRevision(0));
    assert!(holds(&number, Vec::new()));
    let empty = TargetUnion::Value(Bytes::new());
    assert!(!holds(&compare(CompareTarget::Value, empty), Vec::new()));
}
