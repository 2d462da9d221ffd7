//! Counts of requests for v2 keys. `/v2/stats/store` shows them, and `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use keelson_port::metrics::Exposition;
use keelson_proto::internal::tree_request::Op;

/// The counted operations.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    Get,
    Set,
    Delete,
    Update,
    Create,
    CompareAndSwap,
    CompareAndDelete,
}

/// etcd's names in `/v2/stats/store`, in its order.
pub(crate) const COUNTED: [(Counted, &str); 7] = [
    (Counted::Get, "gets"),
    (Counted::Set, "sets"),
    (Counted::Delete, "delete"),
    (Counted::Update, "update"),
    (Counted::Create, "create"),
    (Counted::CompareAndSwap, "compareAndSwap"),
    (Counted::CompareAndDelete, "compareAndDelete"),
];

impl From<Op> for Counted {
    fn from(op: Op) -> Counted {
        match op {
            Op::Set => Counted::Set,
            Op::Create | Op::CreateInOrder => Counted::Create,
            Op::Update => Counted::Update,
            Op::CompareAndSwap => Counted::CompareAndSwap,
            Op::Delete => Counted::Delete,
            Op::CompareAndDelete => Counted::CompareAndDelete,
        }
    }
}

/// The number of each operation, with and without success.
#[derive(Debug, Default)]
pub(crate) struct KeyCounts {
    operations: [[AtomicU64; 2]; COUNTED.len()],
    /// Reads of whole directories, of the reads.
    recursive: [AtomicU64; 2],
    watches: AtomicU64,
}

impl KeyCounts {
    /// Counts an operation.
    pub(crate) fn count(&self, counted: Counted, succeeded: bool) {
        let count = &self.operations[counted as usize][usize::from(succeeded)];
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a read.
    pub(crate) fn read(&self, recursive: bool, succeeded: bool) {
        self.count(Counted::Get, succeeded);
        let count = &self.recursive[usize::from(succeeded)];
        count.fetch_add(recursive.into(), Ordering::Relaxed);
    }

    /// Counts a watch.
    pub(crate) fn watch(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of an operation, without and with success.
    pub(crate) fn of(&self, counted: Counted) -> [u64; 2] {
        let counts = &self.operations[counted as usize];
        [0, 1].map(|succeeded| counts[succeeded].load(Ordering::Relaxed))
    }

    /// Writes the series, with etcd's names of actions.
    pub(super) fn write(&self, out: &mut Exposition) {
        let recursive = [0, 1].map(|succeeded| self.recursive[succeeded].load(Ordering::Relaxed));
        let gets = self.of(Counted::Get);
        let plain = [0, 1].map(|at: usize| gets[at].saturating_sub(recursive[at]));
        let reads = [("get", plain), ("getRecursive", recursive)];
        let writes = [
            ("set", Counted::Set),
            ("delete", Counted::Delete),
            ("update", Counted::Update),
            ("create", Counted::Create),
            ("compareAndSwap", Counted::CompareAndSwap),
            ("compareAndDelete", Counted::CompareAndDelete),
        ];
        let writes = writes.map(|(action, counted)| (action, self.of(counted)));
        let mut metric = |name: &str, help: &str, all: &[(&str, [u64; 2])], at: usize| {
            let name = format!("etcd_debugging_store_{name}_total");
            out.begin(&name, help, "counter");
            for (action, counts) in all {
                out.series(&name, &[("action", action)], counts[at]);
            }
        };
        let help = "Total number of reads action by (get/getRecursive), local to this member.";
        metric("reads", help, &reads, 1);
        let help = "Failed read actions by (get/getRecursive), local to this member.";
        metric("reads_failed", help, &reads, 0);
        let help = "Total number of writes (e.g. set/compareAndDelete) seen by this member.";
        metric("writes", help, &writes, 1);
        let help = "Failed write actions (e.g. set/compareAndDelete), seen by this member.";
        metric("writes_failed", help, &writes, 0);
        out.counter(
            "etcd_debugging_store_watch_requests_total",
            "Total number of incoming watch requests (new or reestablished).",
            self.watches.load(Ordering::Relaxed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recursive_read_is_another_action() {
        let counts = KeyCounts::default();
        counts.read(true, true);
        counts.read(false, true);
        counts.read(false, false);
        counts.count(Counted::CompareAndSwap, false);
        counts.watch();
        let mut out = Exposition::default();
        counts.write(&mut out);
        let text = out.into_text();
        for line in [
            "etcd_debugging_store_reads_total{action=\"get\"} 1",
            "etcd_debugging_store_reads_total{action=\"getRecursive\"} 1",
            "etcd_debugging_store_reads_failed_total{action=\"get\"} 1",
            "etcd_debugging_store_writes_failed_total{action=\"compareAndSwap\"} 1",
            "etcd_debugging_store_writes_total{action=\"set\"} 0",
            "etcd_debugging_store_watch_requests_total 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
