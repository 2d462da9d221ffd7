//! Ten thousand nested directories, on a stack that is too small for recursion.

use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use super::requests::*;
use crate::tree::{ErrorCode, Loader, NodeExtern, Tree};

const NAMES: usize = 10_000;

fn deep() -> String {
    "/1".to_owned() + &"/d".repeat(NAMES)
}

fn levels(top: &NodeExtern) -> usize {
    std::iter::successors(Some(top), |node| node.nodes.first()).count()
}

fn again(tree: &Tree) -> Tree {
    let mut loader = Loader::default();
    for (key, row) in tree.rows() {
        loader.push(&key, &row).unwrap();
    }
    loader.finish().unwrap()
}

#[test]
fn ten_thousand_names_are_made_read_and_deleted() {
    let path = deep();
    let mut tree = Tree::new();
    tree.apply(&set(&path, "x")).unwrap();
    assert_eq!(tree.len(), NAMES);
    let found = tree.get(path.as_bytes(), false, NOW).unwrap();
    assert_eq!(found.value.as_deref(), Some(&b"x"[..]));
    let all = tree.get(b"/1/d", true, NOW).unwrap();
    assert_eq!(levels(&all), NAMES);
    assert_eq!(all.clone(), all);
    let loaded = again(&tree);
    assert_eq!(loaded.digest(), tree.digest());
    let done = tree.apply(&recursive("/1/d")).unwrap();
    assert_eq!(done.removed.len(), NAMES - 1);
    assert_eq!(done.removed.last().unwrap(), path.as_bytes());
    // All are slices of one buffer, without memory for the square of the depth.
    let begins = |path: &bytes::Bytes| path.as_ptr();
    assert!(
        done.removed
            .iter()
            .all(|path| begins(path) == begins(&done.removed[0]))
    );
    assert!(tree.is_empty());
    assert_ne!(loaded.digest(), tree.digest());
    let ttl_set = ttl(request(Op::Create, &path), 1);
    tree.apply(&TreeRequest {
        dir: true,
        ..ttl_set
    })
    .unwrap();
    assert_eq!(scan(&tree, &(path + "/x"), false, 3), "nothing yet");
}

/// A key of 31,000 names: every listing of it took a gigabyte.
#[test]
fn a_listing_beyond_its_bound_is_refused() {
    let mut tree = Tree::new();
    tree.apply(&set(&deep(), "x")).unwrap();
    let list = |bytes_max| tree.list(b"/1", true, NOW, bytes_max);
    // Half the square of 10,000 names of two bytes.
    let refused = list(99_000_000).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ListingTooLarge);
    assert!(list(110_000_000).is_ok());
    assert!(tree.list(b"/1", false, NOW, 1000).is_ok());
    assert!(tree.list(b"/1", false, NOW, 100).is_err());
}

#[test]
fn what_is_below_a_directory_is_counted_up_to_a_bound() {
    let mut tree = Tree::new();
    for (path, value) in [("/1/a/b", "12"), ("/1/a/c/d", "345"), ("/1/a/_hidden", "x")] {
        tree.apply(&set(path, value)).unwrap();
    }
    let files = ["/1/a/b12", "/1/a/c/d345"];
    let bytes = files.iter().map(|file| file.len() as u64).sum();
    // Two files and a directory.
    assert_eq!(tree.size_below(b"/1/a", 3).unwrap(), Some((2, bytes)));
    assert_eq!(tree.size_below(b"/1/a", 2).unwrap(), None);
    assert_eq!(tree.size_below(b"/1/a/b", 9).unwrap(), Some((0, 0)));
    assert!(tree.size_below(b"/1/none", 9).is_err());
}
