//! The queue, on the model of KV.

use keelson_model::kv::{Kv, Request, Response};

use super::*;

/// A store with some leases.
fn store(leases: &[i64]) -> Kv {
    let mut kv = Kv::default();
    for lease in leases {
        kv.grant(*lease, lease.unsigned_abs(), 60).unwrap();
    }
    kv
}

fn txn(kv: &mut Kv, request: TxnRequest) -> TxnResponse {
    match kv.apply(&Request::Txn(request)).unwrap() {
        Response::Txn(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// A call takes a place in the queue `l`. Returns whether it is the first.
fn take(kv: &mut Kv, lease: i64) -> (Place, bool) {
    let mut place = Place::new("l".into(), lease);
    let answer = txn(kv, place.take(None));
    let (_, is_first) = place.taken(answer);
    (place, is_first)
}

/// The keys of the queue.
fn queue(kv: &Kv) -> Vec<Bytes> {
    let (key, range_end) = keys(b"l");
    let all = RangeRequest {
        key,
        range_end,
        ..RangeRequest::default()
    };
    let found = kv.range(&all).unwrap().kvs.into_iter();
    found.map(|kv| kv.key).collect()
}

fn turn(kv: &Kv, place: &Place) -> Turn {
    place.turn(kv.range(&place.read()).unwrap())
}

/// The keys for whose deletion the place waits.
fn waits_for(kv: &Kv, place: &Place) -> Vec<Bytes> {
    match turn(kv, place) {
        Turn::Behind(watches) => watches.into_iter().map(|watch| watch.key).collect(),
        other => panic!("{other:?}"),
    }
}

fn give_up(kv: &mut Kv, place: &Place) {
    txn(kv, place.give_up());
}

#[test]
fn places_are_in_the_order_of_their_creation() {
    let mut kv = store(&[255, 1, -5]);
    let (first, is_first) = take(&mut kv, 255);
    assert!(is_first);
    let (second, is_first) = take(&mut kv, 1);
    assert!(!is_first);
    let (third, _) = take(&mut kv, -5);
    assert_eq!(
        [first.key(), second.key(), third.key()],
        ["l/ff", "l/1", "l/-5"]
    );
    assert!(matches!(turn(&kv, &first), Turn::First(_)));
    assert_eq!(waits_for(&kv, &second), ["l/ff", "l/1"]);
    assert_eq!(waits_for(&kv, &third), ["l/1", "l/-5"]);
}

/// The key before a place's own may go because its session ends, which had no lock to pass on.
#[test]
fn a_place_behind_a_session_that_ends_is_not_the_first() {
    let mut kv = store(&[1, 2, 3]);
    let places = [1, 2, 3].map(|lease| take(&mut kv, lease).0);
    kv.revoke(2).unwrap();
    assert_eq!(waits_for(&kv, &places[2]), ["l/1", "l/3"]);
    assert!(matches!(turn(&kv, &places[1]), Turn::Gone));
    kv.revoke(1).unwrap();
    assert!(matches!(turn(&kv, &places[2]), Turn::First(_)));
}

/// A key that was deleted and created anew is another place.
#[test]
fn a_place_that_was_lost_is_not_found_in_a_later_one() {
    let mut kv = store(&[1, 2]);
    let _ = take(&mut kv, 1);
    let (lost, _) = take(&mut kv, 2);
    give_up(&mut kv, &lost);
    assert_eq!(queue(&kv), ["l/1"]);
    let (anew, _) = take(&mut kv, 2);
    assert!(matches!(turn(&kv, &lost), Turn::Gone));
    assert_eq!(waits_for(&kv, &anew), ["l/1", "l/2"]);
}

/// A client that had no answer has repeated its call.
#[test]
fn a_call_that_is_given_up_leaves_the_key_to_a_later_call_with_the_lock() {
    let mut kv = store(&[1, 2]);
    let (earlier, _) = take(&mut kv, 1);
    let (later, is_first) = take(&mut kv, 1);
    assert!(is_first);
    assert_eq!(later.created(), earlier.created());
    let (other, _) = take(&mut kv, 2);
    give_up(&mut kv, &earlier);
    assert!(matches!(turn(&kv, &later), Turn::First(_)));
    assert_eq!(waits_for(&kv, &other), ["l/1", "l/2"]);
}

#[test]
fn a_call_that_is_given_up_leaves_the_key_to_an_earlier_call_with_the_lock() {
    let mut kv = store(&[1]);
    let (earlier, _) = take(&mut kv, 1);
    let (later, _) = take(&mut kv, 1);
    give_up(&mut kv, &later);
    assert!(matches!(turn(&kv, &earlier), Turn::First(_)));
}

#[test]
fn a_session_all_of_whose_calls_are_given_up_loses_its_place() {
    let mut kv = store(&[1, 2]);
    let (first, _) = take(&mut kv, 2);
    let calls = [take(&mut kv, 1).0, take(&mut kv, 1).0];
    give_up(&mut kv, &calls[0]);
    assert_eq!(queue(&kv), ["l/1", "l/2"]);
    give_up(&mut kv, &calls[1]);
    assert_eq!(queue(&kv), ["l/2"]);
    give_up(&mut kv, &first);
    assert!(queue(&kv).is_empty());
}

/// A leader's value is a put of its key as well.
#[test]
fn a_place_whose_value_was_replaced_can_be_given_up() {
    let mut kv = store(&[1]);
    let (mut place, _) = take(&mut kv, 1);
    let answer = txn(&mut kv, place.replace("a".into()));
    assert!(place.replaced(answer));
    assert_eq!(kv.range(&first_key(b"l")).unwrap().kvs[0].value, "a");
    give_up(&mut kv, &place);
    assert!(queue(&kv).is_empty());
    let answer = txn(&mut kv, place.replace("b".into()));
    assert!(!place.replaced(answer) && queue(&kv).is_empty());
}

#[test]
fn a_place_whose_value_was_replaced_is_left_to_another_call_that_found_it() {
    let mut kv = store(&[1]);
    let (mut place, _) = take(&mut kv, 1);
    let (_other, is_first) = take(&mut kv, 1);
    assert!(is_first);
    let answer = txn(&mut kv, place.replace("a".into()));
    assert!(place.replaced(answer));
    give_up(&mut kv, &place);
    assert_eq!(queue(&kv), ["l/1"]);
}

#[test]
fn a_later_call_replaces_the_value_only_with_one_of_its_own() {
    let mut kv = store(&[1]);
    for (value, expected) in [(Some("a"), "a"), (Some("b"), "b"), (None, "b")] {
        let place = Place::new("l".into(), 1);
        txn(&mut kv, place.take(value.map(Bytes::from)));
        let first = kv.range(&first_key(b"l")).unwrap().kvs.remove(0);
        assert_eq!((&first.value[..], first.lease), (expected.as_bytes(), 1));
    }
}
