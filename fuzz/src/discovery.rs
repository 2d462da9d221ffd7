//! Any JSON as a discovery service's answer. Only well-formed founders make a cluster: the first by
//! their creation, in any order of the list.

use std::collections::BTreeSet;

use keelson_discovery::v2::{Answer, Node};
use keelson_discovery::{Entry, Remedies, Roster, Size, registration};

/// The target.
pub fn run(bytes: &[u8]) {
    for status in [200, 201, 400, 404, 412, 503] {
        match Answer::parse(status, bytes) {
            Ok(Answer::Done(node, _)) => directory(&node),
            Ok(Answer::Failed(error)) => drop(error.to_string()),
            Ok(_) => {}
            Err(error) => assert!(error.to_string().len() < 4096),
        }
    }
}

fn directory(node: &Node) {
    let entries: Vec<Entry> = node.nodes.iter().filter_map(Node::entry).collect();
    for size in ["1", "2", "3", "5"] {
        let size: Size = size.parse().expect("a size");
        let there = roster(size, entries.iter().cloned());
        check(&there);
        let places: BTreeSet<u64> = entries.iter().map(|entry| entry.created).collect();
        let ids: BTreeSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        if places.len() == entries.len() && ids.len() == entries.len() {
            let back = roster(size, entries.iter().rev().cloned());
            assert_eq!(there.founders(), back.founders());
        }
    }
}

fn roster(size: Size, entries: impl Iterator<Item = Entry>) -> Roster {
    let mut roster = Roster::new(size);
    for entry in entries {
        roster.add(entry);
    }
    roster
}

fn check(roster: &Roster) {
    let size = roster.size().get() as usize;
    let founders = roster.founders();
    assert_eq!(founders.len() + roster.missing(), size);
    assert!(founders.is_sorted_by_key(|entry| entry.created));
    for entry in founders {
        assert!(!roster.is_full_for(&entry.id));
    }
    let remedies = Remedies {
        remove: String::new(),
        renew: String::new(),
    };
    let Ok(cluster) = roster.initial_cluster(&remedies) else {
        return;
    };
    if founders.is_empty() {
        return;
    }
    let members = registration::parse(&cluster).expect("checked entry by entry");
    assert!(founders.len() <= members.len(), "{cluster}");
    let urls = members.values().flatten();
    let distinct: BTreeSet<&String> = urls.clone().collect();
    assert_eq!(distinct.len(), urls.count(), "{cluster}");
}
