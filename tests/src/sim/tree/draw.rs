//! The requests of v2 clients.
//!
//! There are a few directories, some of them hidden, some with a TTL. Files `p` never have a TTL,
//! so that `check::tree::register` can follow them; files `t` may. Values are unique.

use bytes::Bytes;
use keelson_core::MemberId;
use keelson_core::tree::NodeExtern;
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use super::MS_NS;
use crate::check::tree::TreeCall;
use crate::sim::world::World;

const DIRS: [&str; 6] = ["/1", "/1/a", "/1/a/b", "/1/a/_g", "/1/_h", "/1/e"];
/// Directories that sometimes get a TTL.
const ENDING: [&str; 2] = ["/1/e", "/1/e/d"];
/// The directory in which in-order files are created.
const QUEUE: &str = "/1/q";

impl World {
    pub(super) fn draw_tree_request(&mut self, member: MemberId) -> TreeCall {
        if self.dice.chance(0.35) {
            return self.draw_get();
        }
        let mut change = TreeRequest {
            path: self.draw_file(),
            time_ns: self.clock_ns(member),
            ..TreeRequest::default()
        };
        match self.dice.between(0, 99) {
            0..25 => self.fill(Op::Set, &mut change),
            25..33 => self.fill(Op::Create, &mut change),
            33..41 => self.fill(Op::Update, &mut change),
            41..58 => self.draw_compare(Op::CompareAndSwap, &mut change),
            58..63 => self.draw_compare(Op::CompareAndDelete, &mut change),
            63..70 => change.set_op(Op::Delete),
            70..78 => self.draw_refresh(&mut change),
            78..84 => self.draw_in_order(&mut change),
            84..90 => self.draw_directory(&mut change),
            90..97 => self.draw_removal(&mut change),
            _ => self.draw_oddity(&mut change),
        }
        TreeCall::Change(change)
    }

    fn draw_get(&mut self) -> TreeCall {
        let path = match self.dice.between(0, 9) {
            0 => Bytes::from_static(b"/1"),
            1 => self.draw_dir(),
            2 => Bytes::from_static(QUEUE.as_bytes()),
            _ => self.draw_file(),
        };
        TreeCall::Get {
            path,
            recursive: self.dice.chance(0.3),
            quorum: self.dice.chance(0.5),
        }
    }

    fn draw_dir(&mut self) -> Bytes {
        let dir = self.dice.pick(&DIRS).expect("not empty");
        Bytes::from_static(dir.as_bytes())
    }

    fn draw_file(&mut self) -> Bytes {
        let dir = self.dice.pick(&DIRS).expect("not empty");
        let kind = self.dice.pick(&["p", "p", "t", "_t"]).expect("not empty");
        let most = self.swarm.keys.div_ceil(4);
        let number = self.dice.between(0, most);
        Bytes::from(format!("{dir}/{kind}{number}"))
    }

    fn may_end(path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next();
        name.is_some_and(|name| name.contains(&b't'))
    }

    fn value(&mut self) -> Bytes {
        self.tree.values += 1;
        Bytes::from(format!("w{}", self.tree.values))
    }

    fn fill(&mut self, op: Op, change: &mut TreeRequest) {
        change.set_op(op);
        change.value = self.value();
        if World::may_end(&change.path) && self.dice.chance(0.7) {
            change.expires_ns = self.draw_end(change.time_ns);
        }
    }

    /// Whole seconds in most cases; or an expiry in the past, or one so early that etcd treats it
    /// as a mistake.
    fn draw_end(&mut self, now_ns: i64) -> i64 {
        let ttl_ms = match self.dice.between(0, 19) {
            0 => 0,
            1 => return 1,
            2 => self.dice.between(1, 2_000),
            _ => self.dice.between(1, 6) * 1_000,
        };
        now_ns + i64::try_from(ttl_ms).expect("a short time") * MS_NS
    }

    /// Compares with what was seen last of the same file, or sometimes of another one.
    fn draw_compare(&mut self, op: Op, change: &mut TreeRequest) {
        self.fill(op, change);
        if op == Op::CompareAndDelete {
            (change.value, change.expires_ns) = (Bytes::new(), 0);
        }
        let seen: NodeExtern = self
            .tree
            .seen
            .get(&change.path)
            .cloned()
            .unwrap_or_default();
        let kind = self.dice.between(0, 9);
        if kind < 7 {
            change.prev_value = seen.value.unwrap_or_else(|| Bytes::from_static(b"none"));
        }
        if 5 <= kind {
            change.prev_index = seen.modified.max(1);
        }
        if kind == 9 {
            change.prev_index = seen.created.max(1);
        }
    }

    fn draw_refresh(&mut self, change: &mut TreeRequest) {
        let ops = [Op::Set, Op::Update, Op::CompareAndSwap];
        let op = self.dice.pick(&ops).expect("not empty");
        // A file that may exist.
        let seen = self.tree.seen.keys().filter(|path| World::may_end(path));
        let seen: Vec<&Bytes> = seen.collect();
        if let Some(path) = self.dice.pick(&seen) {
            change.path = path.clone();
        }
        if !World::may_end(&change.path) {
            return self.fill(Op::Set, change);
        }
        if op == Op::CompareAndSwap {
            self.draw_compare(op, change);
        }
        change.set_op(op);
        change.value = Bytes::new();
        change.expires_ns = self.draw_end(change.time_ns);
        change.refresh = true;
    }

    fn draw_in_order(&mut self, change: &mut TreeRequest) {
        change.path = match self.dice.chance(0.7) {
            true => Bytes::from_static(QUEUE.as_bytes()),
            false => self.draw_dir(),
        };
        self.fill(Op::CreateInOrder, change);
        if self.dice.chance(0.3) {
            change.expires_ns = self.draw_end(change.time_ns);
        }
    }

    /// Creates a directory, or changes the TTL of an existing one.
    fn draw_directory(&mut self, change: &mut TreeRequest) {
        let ops = [Op::Set, Op::Create, Op::Update];
        change.set_op(self.dice.pick(&ops).expect("not empty"));
        change.dir = true;
        let ending = self.dice.pick(&ENDING).expect("not empty");
        change.path = match self.dice.chance(0.7) {
            true => Bytes::from_static(ending.as_bytes()),
            false => self.draw_dir(),
        };
        if change.path.starts_with(b"/1/e") {
            change.expires_ns = self.draw_end(change.time_ns);
        }
    }

    fn draw_removal(&mut self, change: &mut TreeRequest) {
        change.set_op(Op::Delete);
        change.path = match self.dice.chance(0.3) {
            true => Bytes::from_static(QUEUE.as_bytes()),
            false => self.draw_dir(),
        };
        change.dir = self.dice.chance(0.5);
        change.recursive = self.dice.chance(0.6);
    }

    /// A request below a file, or at the root.
    fn draw_oddity(&mut self, change: &mut TreeRequest) {
        let ops = [Op::Set, Op::Create, Op::Update, Op::Delete];
        let op = self.dice.pick(&ops).expect("not empty");
        self.fill(op, change);
        change.expires_ns = 0;
        change.path = match self.dice.chance(0.5) {
            true => Bytes::from([&change.path[..], b"/x"].concat()),
            false => Bytes::from_static(b"/1"),
        };
    }
}
