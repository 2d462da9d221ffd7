//! The events that a scan of the history finds, with etcd's quirks.

use keelson_proto::internal::TreeExpire;
use keelson_proto::internal::tree_request::Op;

use super::requests::*;
use crate::tree::Tree;

fn after(requests: &[keelson_proto::internal::TreeRequest]) -> Tree {
    let mut tree = Tree::new();
    for request in requests {
        tree.apply(request).unwrap();
    }
    tree
}

#[test]
fn a_scan_finds_the_first_match_from_an_index_on() {
    let tree = after(&[set("/1/a", "1"), set("/1/b", "1"), set("/1/a", "2")]);
    for (since, expected) in [
        (1, "set /1/a=1 @1/1"),
        (2, "set /1/a=2 @3/3 was /1/a=1 @1/1"),
        (3, "set /1/a=2 @3/3 was /1/a=1 @1/1"),
        (4, "nothing yet"),
        (u64::MAX, "nothing yet"),
        // etcd reads 0 as "from now on".
        (0, "nothing yet"),
    ] {
        assert_eq!(scan(&tree, "/1/a", false, since), expected);
    }
    assert_eq!(scan(&Tree::new(), "/1/a", false, 1), "nothing yet");
}

#[test]
fn a_recursive_scan_finds_what_is_below_and_not_what_begins_alike() {
    let tree = after(&[set("/1/foobar", "x"), set("/1/foo/bar", "y")]);
    assert_eq!(scan(&tree, "/1/foo", true, 1), "set /1/foo/bar=y @2/2");
    assert_eq!(scan(&tree, "/1/foo", false, 1), "nothing yet");
    assert_eq!(scan(&tree, "/1", true, 1), "set /1/foobar=x @1/1");
    assert_eq!(scan(&tree, "/", true, 2), "set /1/foo/bar=y @2/2");
}

#[test]
fn a_scan_finds_hidden_nodes_too() {
    let tree = after(&[set("/1/a/_h", "x")]);
    assert_eq!(scan(&tree, "/1", true, 1), "set /1/a/_h=x @1/1");
}

#[test]
fn the_end_of_a_directory_is_the_end_of_all_that_begins_with_its_letters() {
    let mut tree = after(&[set("/1/d/a", "x"), recursive("/1/d")]);
    let expected = "delete /1/d/ @2/1 was /1/d/ @1/1";
    for path in ["/1/d/a", "/1/d/never/was", "/1/dog"] {
        assert_eq!(scan(&tree, path, false, 2), expected);
    }
    assert_eq!(scan(&tree, "/1", false, 2), "nothing yet");
    tree.apply(&ttl(dir(Op::Set, "/1/e"), 1)).unwrap();
    tree.expire(&TreeExpire {
        time_ns: NOW + SECOND,
        spared_index: 0,
        term: 0,
    });
    let expected = "expire /1/e/ @4/3 was /1/e/ @3/3 +0";
    assert_eq!(scan(&tree, "/1/eel", false, 4), expected);
    // The removal of a file concerns that file alone.
    tree.apply(&set("/1/f", "x")).unwrap();
    tree.apply(&request(Op::Delete, "/1/f")).unwrap();
    assert_eq!(scan(&tree, "/1/fox", false, 5), "nothing yet");
}

#[test]
fn the_history_has_a_thousand_events() {
    let mut tree = Tree::new();
    for index in 1..=1000 {
        tree.apply(&set("/1/a", "")).unwrap();
        assert_eq!(scan(&tree, "/1/b", false, 1), "nothing yet", "{index}");
    }
    tree.apply(&set("/1/b", "x")).unwrap();
    let cleared = "401 the requested history has been cleared [2/1] @1001";
    assert_eq!(scan(&tree, "/1/b", false, 1), cleared);
    assert_eq!(scan(&tree, "/1/b", false, 2), "set /1/b=x @1001/1001");
    assert_eq!(scan(&tree, "/1/b", false, 1001), "set /1/b=x @1001/1001");
    assert_eq!(scan(&tree, "/1/b", false, 1002), "nothing yet");
}

#[test]
fn invisible_changes_take_an_index_and_a_place_in_the_history() {
    let mut tree = after(&[set("/1/a", "x")]);
    tree.touch();
    tree.apply(&set("/1/a", "y")).unwrap();
    assert_eq!(tree.index(), 3);
    assert_eq!(
        scan(&tree, "/1/a", false, 2),
        "set /1/a=y @3/3 was /1/a=x @1/1"
    );
    for _ in 0..998 {
        tree.touch();
    }
    let cleared = "401 the requested history has been cleared [2/1] @1001";
    assert_eq!(scan(&tree, "/1/a", false, 1), cleared);
    assert_eq!(scan(&tree, "/1/a", false, 4), "nothing yet");
}
