//! etcd's rules, one test each, as observed in etcd 3.4.23.

use keelson_proto::internal::TreeExpire;
use keelson_proto::internal::tree_request::Op;

use super::requests::*;
use crate::tree::Tree;

#[test]
fn set_makes_a_node_anew_and_shows_what_was_there() {
    check(
        &mut Tree::new(),
        &[
            (set("/1/a", "x"), "set /1/a=x @1/1"),
            (set("/1/a", "y"), "set /1/a=y @2/2 was /1/a=x @1/1"),
            (ttl(set("/1/a", ""), 9), "set /1/a= @3/3 +9 was /1/a=y @2/2"),
            (set("/1/a", "z"), "set /1/a=z @4/4 was /1/a= @3/3 +9"),
            (dir(Op::Set, "/1/a"), "set /1/a/ @5/5 was /1/a=z @4/4"),
            (dir(Op::Set, "/1/a"), "102 /1/a @5"),
            (set("/1/a", "x"), "102 /1/a @5"),
        ],
    );
}

#[test]
fn create_needs_an_absent_node() {
    check(
        &mut Tree::new(),
        &[
            (with_value(Op::Create, "/1/a", "x"), "create /1/a=x @1/1"),
            (with_value(Op::Create, "/1/a", "y"), "105 /1/a @1"),
            (dir(Op::Create, "/1/d/e"), "create /1/d/e/ @2/2"),
            (dir(Op::Create, "/1/d"), "105 /1/d @2"),
            (
                refresh(ttl(set("/1/a", ""), 1)),
                "set /1/a=x @3/3 +1 was /1/a=x @1/1 (refresh)",
            ),
            // A create has nothing to refresh: etcd ignores the flag.
            (
                refresh(ttl(request(Op::Create, "/1/b"), 1)),
                "create /1/b= @4/4 +1",
            ),
        ],
    );
}

#[test]
fn update_keeps_the_created_index_and_drops_value_and_ttl() {
    check(
        &mut Tree::new(),
        &[
            (with_value(Op::Update, "/1/a", "x"), "100 /1/a @0"),
            (ttl(set("/1/a", "x"), 5), "set /1/a=x @1/1 +5"),
            (
                request(Op::Update, "/1/a"),
                "update /1/a= @2/1 was /1/a=x @1/1 +5",
            ),
            (
                ttl(with_value(Op::Update, "/1/a", "y"), 7),
                "update /1/a=y @3/1 +7 was /1/a= @2/1",
            ),
        ],
    );
}

#[test]
fn update_of_a_directory_changes_its_ttl_only_and_not_its_stored_index() {
    let mut tree = Tree::new();
    check(
        &mut tree,
        &[
            (dir(Op::Set, "/1/d"), "set /1/d/ @1/1"),
            (with_value(Op::Update, "/1/d", "x"), "102 /1/d @1"),
            (
                ttl(request(Op::Update, "/1/d"), 100),
                "update /1/d/ @2/1 +100 was /1/d/ @1/1",
            ),
        ],
    );
    assert_eq!(get(&tree, "/1/d", false), "/1/d/ @1/1 +100");
    let again = refresh(ttl(request(Op::Update, "/1/d"), 50));
    assert_eq!(
        apply(&mut tree, &again),
        "update /1/d/ @3/1 +50 was /1/d/ @1/1 +100 (refresh)"
    );
    let plain = request(Op::Update, "/1/d");
    assert_eq!(
        apply(&mut tree, &plain),
        "update /1/d/ @4/1 was /1/d/ @1/1 +50"
    );
    assert_eq!(get(&tree, "/1/d", false), "/1/d/ @1/1");
}

#[test]
fn compare_and_swap_names_the_difference() {
    let cas = |value, index| compare(Op::CompareAndSwap, "/1/a", value, index);
    check(
        &mut Tree::new(),
        &[
            (cas("x", 1), "100 /1/a @0"),
            (set("/1/a", "x"), "set /1/a=x @1/1"),
            (cas("y", 0), "101 [y != x] @1"),
            (cas("", 3), "101 [3 != 1] @1"),
            (cas("y", 3), "101 [y != x] [3 != 1] @1"),
            (cas("x", 3), "101 [3 != 1] @1"),
            (cas("y", 1), "101 [y != x] @1"),
            (
                ttl(cas("x", 1), 3),
                "compareAndSwap /1/a=swapped @2/1 +3 was /1/a=x @1/1",
            ),
            (
                cas("", 2),
                "compareAndSwap /1/a=swapped @3/1 was /1/a=swapped @2/1 +3",
            ),
            (dir(Op::Set, "/1/d"), "set /1/d/ @4/4"),
            (compare(Op::CompareAndSwap, "/1/d", "x", 4), "102 /1/d @4"),
            (compare(Op::CompareAndSwap, "/1/a/b", "x", 4), "104 /1/a @4"),
        ],
    );
}

#[test]
fn compare_and_delete_takes_files_only() {
    let cad = |path, value, index| compare(Op::CompareAndDelete, path, value, index);
    check(
        &mut Tree::new(),
        &[
            (cad("/1/a", "x", 0), "100 /1/a @0"),
            (set("/1/d/a", "x"), "set /1/d/a=x @1/1"),
            (cad("/1/d", "", 1), "102 /1/d @1"),
            (cad("/1/d/a", "y", 2), "101 [y != x] [2 != 1] @1"),
            (
                cad("/1/d/a", "x", 1),
                "compareAndDelete /1/d/a @2/1 was /1/d/a=x @1/1",
            ),
            (cad("/1/d/a", "x", 1), "100 /1/d/a @2"),
        ],
    );
}

#[test]
fn delete_of_a_directory_must_be_meant() {
    let mut tree = Tree::new();
    let steps = [
        (set("/1/d/e/a", "x"), "set /1/d/e/a=x @1/1"),
        (set("/1/d/_h", "y"), "set /1/d/_h=y @2/2"),
        (request(Op::Delete, "/1/d"), "102 /1/d @2"),
        (dir(Op::Delete, "/1/d"), "108 /1/d @2"),
        (request(Op::Delete, "/1/d/e/a/b"), "104 /1/d/e/a @2"),
        (request(Op::Delete, "/1/x/y"), "100 /1/x @2"),
        (
            dir(Op::Delete, "/1/d/e/a"),
            "delete /1/d/e/a @3/1 was /1/d/e/a=x @1/1",
        ),
        (
            dir(Op::Delete, "/1/d/e"),
            "delete /1/d/e/ @4/1 was /1/d/e/ @1/1",
        ),
    ];
    check(&mut tree, &steps);
    let done = tree.apply(&recursive("/1/d")).unwrap();
    assert_eq!(event(&done), "delete /1/d/ @5/1 was /1/d/ @1/1");
    assert_eq!(done.removed, ["/1/d/_h"]);
    assert!(tree.is_empty());
}

#[test]
fn removed_names_everything_below() {
    let mut tree = Tree::new();
    for path in ["/1/d/b/c/f", "/1/d/a", "/1/d/b/_h/g", "/1/d/z"] {
        tree.apply(&set(path, "")).unwrap();
    }
    let done = tree.apply(&recursive("/1/d")).unwrap();
    let expected = "/1/d/a /1/d/b /1/d/b/_h /1/d/b/_h/g /1/d/b/c /1/d/b/c/f /1/d/z";
    assert_eq!(done.removed, Vec::from_iter(expected.split(' ')));
}

#[test]
fn in_order_nodes_are_named_after_the_next_index() {
    let post = |path| with_value(Op::CreateInOrder, path, "x");
    check(
        &mut Tree::new(),
        &[
            (post("/1/q/r"), "create /1/q/r/00000000000000000001=x @1/1"),
            (post("/1"), "create /1/00000000000000000002=x @2/2"),
            (post("/"), "create /00000000000000000003=x @3/3"),
            (
                dir(Op::CreateInOrder, "/1/q"),
                "create /1/q/00000000000000000004/ @4/4",
            ),
            (set("/1/f", ""), "set /1/f= @5/5"),
            (post("/1/f"), "104 /1/f @5"),
            (
                set("/1/q/00000000000000000007", ""),
                "set /1/q/00000000000000000007= @6/6",
            ),
            (post("/1/q"), "105 /1/q/00000000000000000007 @6"),
        ],
    );
}

#[test]
fn parents_are_made_and_stay_for_ever() {
    let mut tree = Tree::new();
    assert_eq!(
        apply(&mut tree, &ttl(set("/1/a/b/c", "x"), 1)),
        "set /1/a/b/c=x @1/1 +1"
    );
    let expected = "/1/a/ @1/1 [/1/a/b/ @1/1 [/1/a/b/c=x @1/1 +1]]";
    assert_eq!(get(&tree, "/1/a", true), expected);
    let events = tree.expire(&TreeExpire {
        time_ns: NOW + SECOND,
        spared_index: 0,
        term: 0,
    });
    assert_eq!(events.len(), 1);
    assert_eq!(get(&tree, "/1/a", true), "/1/a/ @1/1 [/1/a/b/ @1/1]");
}

#[test]
fn a_file_cannot_be_a_parent() {
    check(
        &mut Tree::new(),
        &[
            (set("/1/f", "x"), "set /1/f=x @1/1"),
            (set("/1/f/a", "y"), "104 /1/f @1"),
            (set("/1/f/a/b", "y"), "104 /1/f @1"),
            (dir(Op::Create, "/1/f/a/b"), "104 /1/f @1"),
            (request(Op::Update, "/1/f/a/b"), "104 /1/f @1"),
        ],
    );
}

#[test]
fn the_roots_are_read_only() {
    let mut tree = Tree::new();
    for path in ["/", "/0", "/1"] {
        for op in [
            Op::Set,
            Op::Create,
            Op::Update,
            Op::CompareAndSwap,
            Op::Delete,
        ] {
            assert_eq!(
                apply(&mut tree, &request(op, path)),
                "107 / @0",
                "{op:?} {path}"
            );
            assert_eq!(
                apply(&mut tree, &dir(op, path)),
                "107 / @0",
                "{op:?} {path}"
            );
        }
        // etcd checks the type of the node first here.
        let cad = compare(Op::CompareAndDelete, path, "x", 0);
        assert_eq!(apply(&mut tree, &cad), format!("102 {path} @0"));
        assert_eq!(apply(&mut tree, &recursive(path)), "107 / @0");
    }
    assert_eq!(get(&tree, "/1", false), "/1/ @0/0");
    assert_eq!(get(&tree, "/", true), "// @0/0 [/0/ @0/0, /1/ @0/0]");
}

#[test]
fn get_names_the_first_part_of_the_path_that_is_missing() {
    let mut tree = Tree::new();
    tree.apply(&set("/1/a/f", "x")).unwrap();
    for (path, expected) in [
        ("/1/a/f", "/1/a/f=x @1/1"),
        ("/1/a/f/g/h", "104 /1/a/f @1"),
        ("/1/a/g/h/i", "100 /1/a/g @1"),
        ("/2", "100 /2 @1"),
        ("/1/a/", "/1/a/ @1/1 [/1/a/f=x @1/1]"),
    ] {
        assert_eq!(get(&tree, path, false), expected);
    }
}

#[test]
fn listings_leave_out_what_is_hidden_and_are_in_key_order() {
    let mut tree = Tree::new();
    for path in ["/1/d/z", "/1/d/_h/a", "/1/d/a/b", "/1/d/a/_c", "/1/d/a_"] {
        tree.apply(&set(path, "")).unwrap();
    }
    for (path, recursive, expected) in [
        (
            "/1/d",
            false,
            "/1/d/ @1/1 [/1/d/a/ @3/3, /1/d/a_= @5/5, /1/d/z= @1/1]",
        ),
        (
            "/1/d",
            true,
            "/1/d/ @1/1 [/1/d/a/ @3/3 [/1/d/a/b= @3/3], /1/d/a_= @5/5, /1/d/z= @1/1]",
        ),
        ("/1/d/_h", false, "/1/d/_h/ @2/2 [/1/d/_h/a= @2/2]"),
        ("/1/d/a/_c", false, "/1/d/a/_c= @4/4"),
    ] {
        assert_eq!(get(&tree, path, recursive), expected);
    }
}

#[test]
fn refresh_keeps_the_value_and_no_scan_finds_it() {
    let mut tree = Tree::new();
    check(
        &mut tree,
        &[
            (refresh(ttl(set("/1/r", ""), 5)), "100 /1/r @0"),
            (set("/1/r", "v"), "set /1/r=v @1/1"),
            (
                refresh(ttl(set("/1/r", ""), 5)),
                "set /1/r=v @2/2 +5 was /1/r=v @1/1 (refresh)",
            ),
            (
                refresh(ttl(compare(Op::CompareAndSwap, "/1/r", "v", 0), 7)),
                "compareAndSwap /1/r=v @3/2 +7 was /1/r=v @2/2 +5 (refresh)",
            ),
            (
                refresh(ttl(request(Op::Update, "/1/r"), 9)),
                "update /1/r=v @4/2 +9 was /1/r=v @3/2 +7 (refresh)",
            ),
            // etcd 3.4.23 makes a directory of it, and so do we.
            (
                refresh(ttl(dir(Op::Set, "/1/r"), 9)),
                "set /1/r/ @5/5 +9 was /1/r=v @4/2 +9 (refresh)",
            ),
            (refresh(ttl(set("/1/r", ""), 9)), "102 /1/r @5"),
        ],
    );
    assert_eq!(scan(&tree, "/1/r", false, 1), "set /1/r=v @1/1");
    assert_eq!(scan(&tree, "/1/r", false, 2), "nothing yet");
}

#[test]
fn a_time_before_the_year_2000_is_no_time_for_a_new_node() {
    let mut tree = Tree::new();
    let at = |expires_ns, request| keelson_proto::internal::TreeRequest {
        expires_ns,
        ..request
    };
    check(
        &mut tree,
        &[
            (at(-5, set("/1/a", "x")), "set /1/a=x @1/1"),
            (
                at(946_684_799_999_999_999, set("/1/b", "x")),
                "set /1/b=x @2/2",
            ),
            (
                at(946_684_800_000_000_000, set("/1/c", "x")),
                "set /1/c=x @3/3 +0",
            ),
            (
                at(-5, with_value(Op::Update, "/1/a", "y")),
                "update /1/a=y @4/1 +0 was /1/a=x @1/1",
            ),
        ],
    );
    assert_eq!(tree.next_expiry(0), Some(-5));
}
