//! Times to live.

use keelson_proto::internal::TreeExpire;
use keelson_proto::internal::tree_request::Op;

use super::requests::*;
use crate::tree::Tree;

fn expire(tree: &mut Tree, time_ns: i64, spared_index: u64) -> Vec<String> {
    let request = TreeExpire {
        time_ns,
        spared_index,
        term: 0,
    };
    let before = tree.index();
    let events = tree.expire(&request);
    assert_eq!(tree.index(), before + events.len() as u64);
    events.iter().map(|done| event(done)).collect()
}

#[test]
fn nodes_end_in_the_order_of_their_times_and_then_of_their_paths() {
    let mut tree = Tree::new();
    for (path, seconds) in [
        ("/1/z", 1),
        ("/1/b", 2),
        ("/1/c", 3),
        ("/1/a", 2),
        ("/1/b/", 2),
    ] {
        tree.apply(&ttl(set(path, ""), seconds)).unwrap();
    }
    assert_eq!(tree.next_expiry(0), Some(NOW + SECOND));
    assert!(expire(&mut tree, NOW + SECOND - 1, 0).is_empty());
    let expected = [
        "expire /1/z @6/1 was /1/z= @1/1 +0",
        "expire /1/a @7/4 was /1/a= @4/4 +0",
        "expire /1/b @8/5 was /1/b= @5/5 +0",
    ];
    assert_eq!(expire(&mut tree, NOW + 2 * SECOND, 0), expected);
    assert_eq!(get(&tree, "/1", true), "/1/ @0/0 [/1/c= @3/3 +3]");
    assert_eq!(tree.next_expiry(0), Some(NOW + 3 * SECOND));
    assert_eq!(expire(&mut tree, i64::MAX, 0).len(), 1);
    assert_eq!(tree.next_expiry(0), None);
}

#[test]
fn a_directory_ends_with_one_event_and_takes_along_what_it_holds() {
    let mut tree = Tree::new();
    tree.apply(&ttl(dir(Op::Set, "/1/d"), 5)).unwrap();
    tree.apply(&ttl(set("/1/d/a", "x"), 5)).unwrap();
    tree.apply(&set("/1/d/e/_f", "x")).unwrap();
    let events = tree.expire(&TreeExpire {
        time_ns: NOW + 5 * SECOND,
        spared_index: 0,
        term: 0,
    });
    let shown: Vec<String> = events.iter().map(|done| event(done)).collect();
    assert_eq!(shown, ["expire /1/d/ @4/1 was /1/d/ @1/1 +0"]);
    assert_eq!(events[0].removed, ["/1/d/a", "/1/d/e", "/1/d/e/_f"]);
    assert_eq!((tree.len(), tree.next_expiry(0)), (0, None));
}

#[test]
fn a_new_time_replaces_the_old_one_and_none_takes_it_away() {
    let mut tree = Tree::new();
    let steps = [
        (ttl(set("/1/a", ""), 5), Some(5)),
        (ttl(set("/1/a", ""), 3), Some(3)),
        (ttl(request(Op::Update, "/1/a"), 4), Some(4)),
        (ttl(compare(Op::CompareAndSwap, "/1/a", "", 3), 2), Some(2)),
        (request(Op::Update, "/1/a"), None),
        (ttl(request(Op::Update, "/1/a"), 9), Some(9)),
        (set("/1/a", ""), None),
        (ttl(set("/1/a", ""), 1), Some(1)),
        (request(Op::Delete, "/1/a"), None),
    ];
    for (request, expected) in steps {
        tree.apply(&request).unwrap();
        let left = tree.next_expiry(0).map(|ns| (ns - NOW) / SECOND);
        assert_eq!(left, expected, "{request:?}");
    }
}

#[test]
fn those_are_spared_whose_time_was_set_up_to_an_index() {
    let mut tree = Tree::new();
    tree.apply(&ttl(set("/1/a", ""), 1)).unwrap();
    tree.apply(&ttl(set("/1/b", ""), 2)).unwrap();
    tree.apply(&ttl(set("/1/c", ""), 3)).unwrap();
    // Renewed: its time was set at index 4.
    tree.apply(&refresh(ttl(request(Op::Update, "/1/a"), 2)))
        .unwrap();
    for (spared, next) in [(0, Some(2)), (2, Some(2)), (3, Some(2)), (4, None)] {
        let left = tree.next_expiry(spared).map(|ns| (ns - NOW) / SECOND);
        assert_eq!(left, next, "{spared}");
    }
    let late = NOW + 9 * SECOND;
    assert!(expire(&mut tree, late, 4).is_empty());
    let expired = expire(&mut tree, late, 2);
    let expected = [
        "expire /1/a @5/1 was /1/a= @4/1 +0",
        "expire /1/c @6/3 was /1/c= @3/3 +0",
    ];
    assert_eq!(expired, expected);
    assert_eq!(
        expire(&mut tree, late, 0),
        ["expire /1/b @7/2 was /1/b= @2/2 +0"]
    );
}

#[test]
fn the_time_left_is_rounded_up_and_never_below_zero() {
    let mut tree = Tree::new();
    tree.apply(&ttl(set("/1/a", ""), 5)).unwrap();
    let left = |now| tree.get(b"/1/a", false, now).unwrap().ttl;
    let end = NOW + 5 * SECOND;
    for (now, expected) in [
        (NOW, 5),
        (NOW + 1, 5),
        (NOW + SECOND - 1, 5),
        (NOW + SECOND, 4),
        (end - 1, 1),
        (end, 0),
        (end + 100 * SECOND, 0),
        (i64::MAX, 0),
        (i64::MIN, i64::MAX / SECOND + 1),
    ] {
        assert_eq!(left(now), expected, "{now}");
    }
}
