//! The answers of etcd 3.4.23 to thousands of random requests, recorded over HTTP: the tree must
//! give the same. A line has operation, path, value, options and answer. `/1` is prepended to
//! etcd's keys, and `ttl` is rounded up to a multiple of 100,000.

use keelson_proto::internal::tree_request::Op;

use super::requests::*;
use crate::tree::Tree;

struct Line<'a> {
    op: &'a str,
    path: &'a str,
    value: &'a str,
    options: &'a str,
    answer: &'a str,
}

impl Line<'_> {
    fn new(line: &str) -> Line<'_> {
        let parts: Vec<&str> = line.split('\t').collect();
        let [op, path, value, options, answer] = parts[..] else {
            panic!("{line}");
        };
        Line {
            op,
            path,
            value,
            options,
            answer,
        }
    }

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }

    fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.split(',');
        options.find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> u64 {
        let text = self.option(name).unwrap_or("0");
        text.parse().unwrap()
    }

    fn run(&self, tree: &mut Tree) -> String {
        let op = match self.op {
            "get" => return get(tree, self.path, self.has("recursive")),
            "scan" => {
                let since = self.number("since");
                return scan(tree, self.path, self.has("recursive"), since);
            }
            "set" => Op::Set,
            "create" => Op::Create,
            "update" => Op::Update,
            "cas" => Op::CompareAndSwap,
            "post" => Op::CreateInOrder,
            "delete" => Op::Delete,
            "cad" => Op::CompareAndDelete,
            other => panic!("{other}"),
        };
        let mut request = with_value(op, self.path, self.value);
        request.dir = self.has("dir");
        request.recursive = self.has("recursive");
        request.refresh = self.has("refresh");
        request.prev_index = self.number("pi");
        request.prev_value = self.option("pv").unwrap_or_default().to_owned().into();
        match self.number("ttl") {
            0 => apply(tree, &request),
            seconds => apply(tree, &ttl(request, seconds as i64)),
        }
    }
}

#[test]
fn the_tree_answers_as_etcd_did() {
    let mut tree = Tree::new();
    // A fresh etcd's own changes: its member, the member's attributes, the version.
    (0..3).for_each(|_| tree.touch());
    for (number, line) in include_str!("recorded.txt").lines().enumerate() {
        let line = Line::new(line);
        let answer = line.run(&mut tree);
        // etcd's answer does not show it; its scans omit such events.
        let answer = answer.trim_end_matches(" (refresh)");
        assert_eq!(answer, line.answer, "line {}", number + 1);
    }
}
