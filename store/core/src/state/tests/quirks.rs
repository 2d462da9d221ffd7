//! One test for each quirk of etcd's ranges, puts and deletes.

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::*;

use super::harness::{Machine, shown};
use super::requests::*;
use crate::state::{Error, check};

/// Keys a..f at revisions 2..7 with values 6..1.
fn alphabet() -> Machine {
    let mut machine = Machine::new();
    for (at, key) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        machine.put(put(key, &(6 - at).to_string())).unwrap();
    }
    machine
}

fn sorted(target: SortTarget, order: SortOrder, limit: i64) -> RangeRequest {
    RangeRequest {
        sort_target: target as i32,
        sort_order: order as i32,
        limit,
        ..all()
    }
}

#[test]
fn the_store_begins_at_revision_1() {
    let machine = Machine::new();
    assert_eq!(machine.state.view().revision(), 1);
    let response = machine.range(&all()).unwrap();
    assert_eq!(response.header.unwrap().revision, 1);
    assert_eq!(machine.state.view().compact_revision(), -1);
}

#[test]
fn a_zero_byte_as_range_end_means_every_greater_key() {
    let machine = alphabet();
    assert_eq!(machine.show(&range("e", "\0")), ["e=2", "f=1"]);
    assert_eq!(machine.show(&range("\0", "\0")).len(), 6);
    assert_eq!(machine.show(&range("b", "d")), ["b=5", "c=4"]);
}

#[test]
fn a_range_end_at_or_below_the_key_is_empty() {
    let machine = alphabet();
    for end in ["c", "b", "a"] {
        let response = machine.range(&range("c", end)).unwrap();
        assert_eq!((response.count, response.kvs.len()), (0, 0));
    }
}

#[test]
fn a_sort_target_without_an_order_sorts_what_the_limit_left() {
    let machine = alphabet();
    // Run on etcd 3.4.23: c and b, not f and e.
    let none = sorted(SortTarget::Value, SortOrder::None, 2);
    assert_eq!(machine.show(&none), ["c=4", "b=5"]);
    let ascend = sorted(SortTarget::Value, SortOrder::Ascend, 2);
    assert_eq!(machine.show(&ascend), ["f=1", "e=2"]);
    assert!(machine.range(&none).unwrap().more);
}

#[test]
fn every_target_sorts_both_ways() {
    let mut machine = Machine::new();
    for (key, value) in [
        ("b", "2"),
        ("a", "3"),
        ("c", "1"),
        ("a", "3"),
        ("a", "3"),
        ("c", "1"),
    ] {
        machine.put(put(key, value)).unwrap();
    }
    let order = |target, order| {
        let kvs = machine.show(&sorted(target, order, 0));
        kvs.iter().map(|kv| &kv[..1]).collect::<String>()
    };
    let expected = [
        (SortTarget::Key, "abc", "cba"),
        (SortTarget::Version, "bca", "acb"),
        (SortTarget::Create, "bac", "cab"),
        (SortTarget::Mod, "bac", "cab"),
        (SortTarget::Value, "cba", "abc"),
    ];
    for (target, ascending, descending) in expected {
        assert_eq!(order(target, SortOrder::Ascend), ascending, "{target:?}");
        assert_eq!(order(target, SortOrder::Descend), descending, "{target:?}");
    }
}

#[test]
fn filters_do_not_change_the_count() {
    let machine = alphabet();
    let filtered = |change: fn(&mut RangeRequest)| {
        let mut request = all();
        change(&mut request);
        let response = machine.range(&request).unwrap();
        assert_eq!(response.count, 6);
        shown(&response.kvs)
            .iter()
            .map(|kv| &kv[..1])
            .collect::<String>()
    };
    assert_eq!(filtered(|r| r.min_mod_revision = 5), "def");
    assert_eq!(filtered(|r| r.max_mod_revision = 3), "ab");
    assert_eq!(filtered(|r| r.min_create_revision = 7), "f");
    assert_eq!(filtered(|r| r.max_create_revision = 2), "a");
    // With a filter the limit applies after it.
    assert_eq!(filtered(|r| (r.min_mod_revision, r.limit) = (4, 2)), "cd");
}

#[test]
fn more_is_said_only_under_a_limit() {
    let machine = alphabet();
    let limited = |limit| {
        let response = machine.range(&RangeRequest { limit, ..all() }).unwrap();
        (response.kvs.len(), response.more, response.count)
    };
    assert_eq!(limited(5), (5, true, 6));
    assert_eq!(limited(6), (6, false, 6));
    assert_eq!(limited(0), (6, false, 6));
    assert_eq!(limited(-3), (6, false, 6));
    assert_eq!(limited(i64::MAX), (6, false, 6));
}

#[test]
fn count_only_sends_no_pairs() {
    let machine = alphabet();
    let request = RangeRequest {
        count_only: true,
        limit: 2,
        ..all()
    };
    let response = machine.range(&request).unwrap();
    assert_eq!((response.count, response.more), (6, false));
    assert!(response.kvs.is_empty());
}

#[test]
fn keys_only_sends_no_values_but_sorts_by_them() {
    let machine = alphabet();
    let request = RangeRequest {
        keys_only: true,
        ..sorted(SortTarget::Value, SortOrder::Ascend, 1)
    };
    let response = machine.range(&request).unwrap();
    assert_eq!(shown(&response.kvs), ["f="]);
    assert_eq!(response.kvs[0].mod_revision, 7);
}

#[test]
fn a_range_reads_at_its_revision_and_answers_with_the_current_one() {
    let mut machine = alphabet();
    machine.put(put("a", "new")).unwrap();
    machine.delete(delete("b", ""));
    let then = machine.range(&at(3, all())).unwrap();
    assert_eq!(shown(&then.kvs), ["a=6", "b=5"]);
    assert_eq!((then.count, then.header.unwrap().revision), (2, 9));
    assert_eq!(machine.show(&at(-5, get("a"))), ["a=new"]);
    assert_eq!(machine.range(&at(10, all())), Err(Error::FutureRev));
}

#[test]
fn the_compacted_revision_itself_is_readable() {
    let mut machine = alphabet();
    machine.compact(4).unwrap();
    machine.sweep();
    assert_eq!(machine.show(&at(4, all())), ["a=6", "b=5", "c=4"]);
    assert_eq!(machine.range(&at(3, all())), Err(Error::Compacted));
}

#[test]
fn versions_restart_with_each_generation() {
    let mut machine = Machine::new();
    let stamp = |machine: &Machine| {
        let kvs = machine.range(&get("k")).unwrap().kvs;
        (kvs[0].create_revision, kvs[0].mod_revision, kvs[0].version)
    };
    machine.put(put("k", "1")).unwrap();
    assert_eq!(stamp(&machine), (2, 2, 1));
    machine.put(put("k", "2")).unwrap();
    assert_eq!(stamp(&machine), (2, 3, 2));
    machine.delete(delete("k", ""));
    machine.put(put("k", "3")).unwrap();
    assert_eq!(stamp(&machine), (5, 5, 1));
}

#[test]
fn a_put_returns_the_previous_pair_on_request() {
    let mut machine = Machine::new();
    let ask = |value| PutRequest {
        prev_kv: true,
        ..put("k", value)
    };
    assert_eq!(machine.put(ask("1")).unwrap().prev_kv, None);
    let previous = machine.put(ask("2")).unwrap().prev_kv.unwrap();
    assert_eq!((&previous.value[..], previous.version), (&b"1"[..], 1));
    machine.flush();
    let previous = machine.put(ask("3")).unwrap().prev_kv.unwrap();
    assert_eq!((&previous.value[..], previous.version), (&b"2"[..], 2));
    assert_eq!(machine.put(put("k", "4")).unwrap().prev_kv, None);
}

#[test]
fn ignore_value_keeps_the_value_of_a_key_that_is_there() {
    let mut machine = Machine::new();
    let touch = PutRequest {
        ignore_value: true,
        ..put("k", "")
    };
    assert_eq!(machine.put(touch.clone()), Err(Error::KeyNotFound));
    assert_eq!(machine.state.view().revision(), 1);
    machine.put(put("k", "v")).unwrap();
    machine.put(touch).unwrap();
    let kv = &machine.range(&get("k")).unwrap().kvs[0];
    assert_eq!((&kv.value[..], kv.version), (&b"v"[..], 2));
    let keep_lease = PutRequest {
        ignore_lease: true,
        ..put("absent", "v")
    };
    assert_eq!(machine.put(keep_lease), Err(Error::KeyNotFound));
}

#[test]
fn a_lease_that_is_not_there_refuses_the_put() {
    let mut machine = Machine::new();
    let leased = PutRequest {
        lease: 7,
        ..put("k", "v")
    };
    assert_eq!(machine.put(leased), Err(Error::LeaseNotFound));
    assert_eq!(machine.state.view().revision(), 1);
}

#[test]
fn deleting_nothing_leaves_the_revision() {
    let mut machine = alphabet();
    let response = machine.delete(delete("x", "z"));
    assert_eq!(
        (response.deleted, response.header.unwrap().revision),
        (0, 7)
    );
    assert_eq!(machine.state.view().revision(), 7);
    let request = DeleteRangeRequest {
        prev_kv: true,
        ..delete("b", "d")
    };
    let response = machine.delete(request);
    assert_eq!(
        (response.deleted, response.header.unwrap().revision),
        (2, 8)
    );
    assert_eq!(shown(&response.prev_kvs), ["b=5", "c=4"]);
    assert_eq!(machine.delete(delete("\0", "\0")).deleted, 4);
    assert_eq!(machine.delete(delete("\0", "\0")).deleted, 0);
}

#[test]
fn requests_without_a_key_or_with_too_much_are_refused() {
    assert_eq!(check::range(&get("")), Err(Error::EmptyKey));
    assert_eq!(check::put(&put("", "v")), Err(Error::EmptyKey));
    assert_eq!(check::delete_range(&delete("", "")), Err(Error::EmptyKey));
    let request = PutRequest {
        ignore_value: true,
        ..put("k", "v")
    };
    assert_eq!(check::put(&request), Err(Error::ValueProvided));
    let request = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("k", "v")
    };
    assert_eq!(check::put(&request), Err(Error::LeaseProvided));
    let request = RangeRequest {
        sort_order: 3,
        ..get("k")
    };
    assert_eq!(check::range(&request), Err(Error::InvalidSortOption));
    let request = RangeRequest {
        sort_target: 5,
        ..get("k")
    };
    assert_eq!(check::range(&request), Err(Error::InvalidSortOption));
}

#[test]
fn a_stream_is_the_range_in_pieces() {
    let machine = alphabet();
    let view = machine.state.view();
    for (limit, chunk_bytes) in [(0, 1), (0, 30), (4, 1), (6, 1), (7, 1000), (1, 1)] {
        let request = RangeRequest { limit, ..all() };
        let chunks = view.range_stream(&request, chunk_bytes).unwrap();
        let chunks = chunks.collect::<Result<Vec<_>, _>>().unwrap();
        let (last, others) = chunks.split_last().unwrap();
        for chunk in others {
            assert_eq!((chunk.header, chunk.count, chunk.more), (None, 0, false));
        }
        let whole = RangeResponse {
            kvs: chunks.iter().flat_map(|chunk| chunk.kvs.clone()).collect(),
            ..last.clone()
        };
        assert_eq!(whole, machine.range(&request).unwrap());
    }
}

#[test]
fn a_stream_stays_at_its_revision_until_that_is_compacted() {
    let mut machine = alphabet();
    let mut stream = machine.state.view().range_stream(&all(), 1).unwrap();
    assert_eq!(shown(&stream.next_chunk().unwrap().unwrap().kvs), ["a=6"]);
    machine.put(put("b", "new")).unwrap();
    assert_eq!(shown(&stream.next_chunk().unwrap().unwrap().kvs), ["b=5"]);
    machine.compact(8).unwrap();
    assert_eq!(stream.next_chunk(), Err(Error::Compacted));
}

#[test]
fn a_stream_has_neither_orders_nor_filters() {
    let view = alphabet().state.view();
    let refused = |request: RangeRequest| view.range_stream(&request, 1).err();
    let order = |target, order| refused(sorted(target, order, 0));
    assert_eq!(order(SortTarget::Key, SortOrder::Ascend), None);
    assert_eq!(
        order(SortTarget::Key, SortOrder::Descend),
        Some(Error::StreamSorted)
    );
    let filtered = RangeRequest {
        max_mod_revision: 3,
        ..all()
    };
    assert_eq!(refused(filtered), Some(Error::StreamFiltered));
    let counting = RangeRequest {
        count_only: true,
        ..all()
    };
    let mut stream = view.range_stream(&counting, 1).unwrap();
    assert_eq!(stream.next_chunk().unwrap().unwrap().count, 6);
    assert_eq!(stream.next_chunk(), Ok(None));
}

#[test]
fn a_key_may_hold_any_bytes() {
    let mut machine = Machine::new();
    let key = Bytes::from_static(&[0xff, 0, 0xff]);
    let request = PutRequest {
        key: key.clone(),
        ..PutRequest::default()
    };
    machine.put(request).unwrap();
    assert_eq!(machine.range(&all()).unwrap().kvs[0].key, key);
}

#[test]
fn of_two_faults_a_put_names_the_lease_and_a_put_in_a_transaction_the_key() {
    let mut machine = Machine::new();
    let request = PutRequest {
        lease: 7,
        ignore_value: true,
        ..put("absent", "")
    };
    let alone = machine.put(request.clone());
    assert_eq!(alone.unwrap_err(), Error::LeaseNotFound);
    let inside = op(request_op::Request::RequestPut(request));
    let inside = machine.txn(txn(vec![], vec![inside], vec![]));
    assert_eq!(inside.unwrap_err(), Error::KeyNotFound);
}
