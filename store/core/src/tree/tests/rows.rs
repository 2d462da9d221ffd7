//! The rows of a snapshot.

use bytes::Bytes;

use super::requests::*;
use crate::tree::{Loader, Tree, TreeRow};

/// Values may be gigabytes, and the applier waits for a capture.
#[test]
fn a_captured_tree_has_no_copy_of_its_values() {
    let mut tree = Tree::new();
    tree.apply(&set("/1/a", "one")).unwrap();
    tree.apply(&set("/1/a", "two")).unwrap();
    let captured: Vec<TreeRow> = tree.captured().collect();
    let value = |node: Option<Bytes>| node.expect("a value").as_ptr();
    let now = tree.get(b"/1/a", false, NOW).unwrap();
    let past = tree.scan(b"/1/a", false, 1).unwrap().unwrap();
    let (mut files, mut events) = (Vec::new(), Vec::new());
    for row in &captured {
        match row {
            TreeRow::NodeExtern(_, node) => files.push(node.value.as_ptr()),
            TreeRow::Event(event) => events.push(value(event.node.clone().unwrap().value)),
            TreeRow::Head(..) => {}
        }
    }
    assert_eq!(files, [value(now.value)]);
    assert_eq!(events, [value(past.node.value.clone()), files[0]]);
    // They are encoded as captured, in spite of later changes.
    let before = tree.digest();
    tree.apply(&recursive("/1/a")).unwrap();
    let mut loader = Loader::default();
    for (key, row) in captured.into_iter().map(TreeRow::encode) {
        loader.push(&key, &row).unwrap();
    }
    assert_eq!(loader.finish().unwrap().digest(), before);
}
