//! The model's own rules: past states, expiry, and updates of directories.

use keelson_proto::internal::tree_request::Op;
use keelson_proto::internal::{TreeExpire, TreeRequest};

use super::{State, Tree, code};

const NOW: i64 = 1_767_225_600_000_000_000;

fn request(op: Op, path: &'static str, value: &'static str) -> TreeRequest {
    TreeRequest {
        op: op.into(),
        path: path.into(),
        value: value.into(),
        time_ns: NOW,
        ..TreeRequest::default()
    }
}

#[test]
fn a_read_of_the_past_sees_the_past() {
    let mut tree = Tree::new();
    tree.apply(&request(Op::Set, "/1/d/a", "x")).unwrap();
    tree.apply(&request(Op::Set, "/1/d/a", "y")).unwrap();
    let away = TreeRequest {
        recursive: true,
        ..request(Op::Delete, "/1/d", "")
    };
    assert_eq!(tree.apply(&away).unwrap().removed, ["/1/d/a"]);
    let value = |index| Some(tree.get(b"/1/d/a", false, index, NOW).ok()?.value?.to_vec());
    assert_eq!(value(1), Some(b"x".to_vec()));
    assert_eq!(value(2), Some(b"y".to_vec()));
    assert_eq!(value(3), None);
    let gone = tree.get(b"/1/d/a", false, 3, NOW).unwrap_err();
    assert_eq!((gone.code, gone.index), (code::KEY_NOT_FOUND, 3));
    assert_eq!(gone.cause, "/1/d");
}

#[test]
fn an_expiry_takes_the_earliest_first_and_spares_what_it_must() {
    let mut tree = Tree::new();
    for (path, ns) in [("/1/b", 2), ("/1/a", 2), ("/1/c", 1), ("/1/d", 3)] {
        let ends = TreeRequest {
            expires_ns: NOW + ns,
            ..request(Op::Set, path, "x")
        };
        tree.apply(&ends).unwrap();
    }
    tree.expire(&TreeExpire {
        time_ns: NOW + 2,
        spared_index: 1,
        term: 0,
    });
    let ended = [5, 6].map(|index| tree.event(index).unwrap().node.key.clone());
    assert_eq!((ended, tree.index()), (["/1/c".into(), "/1/a".into()], 6));
    assert_eq!(tree.next_expiry(1, 6), Some(NOW + 3));
    assert!(tree.was(b"/1/b", 6).is_some());
}

#[test]
fn a_directory_that_is_updated_keeps_its_index() {
    let mut tree = Tree::new();
    let dir = TreeRequest {
        dir: true,
        ..request(Op::Create, "/1/d", "")
    };
    tree.apply(&dir).unwrap();
    let update = TreeRequest {
        expires_ns: NOW + 5,
        ..request(Op::Update, "/1/d", "")
    };
    assert_eq!(tree.apply(&update).unwrap().node.modified, 2);
    let expected = State {
        value: None,
        created: 1,
        modified: 1,
        expires_ns: NOW + 5,
        ttl_set: 2,
    };
    assert_eq!(tree.was(b"/1/d", 2), Some(&expected));
}
