//! Any bytes as a peer's message: a node in the middle of its life must not panic, must not commit,
//! and must not take a proposal or a read request in raft's own form.

use keelson_core::node::{Input, Node, NodeConfig, Restored};
use keelson_core::{Index, LastIncluded, MemberId, Millis, Term};
use keelson_proto::{internal, peer};
use prost::Message;

/// The target.
pub fn run(bytes: &[u8]) {
    let Ok(message) = peer::RaftMessage::decode(bytes) else {
        return;
    };
    if !is_plausible(&message) {
        return;
    }
    let mut node = node();
    let before = node.status().committed;
    let output = node.step(Millis(1), [Input::Raft(message.clone())]);
    let entries = message.entries.len();
    let appended = output.append.map_or(0, |append| append.entries.len());
    assert!(appended <= entries, "entries from nowhere");
    assert!(
        before <= node.status().committed,
        "the commit index went back"
    );
    assert!(
        node.status().committed <= node.status().last,
        "committed beyond the log"
    );
}

/// A member that lies about what is committed is no longer a crash fault, which is all that Raft
/// tolerates; raft-rs stops the process then. What any honest member can send must be survived.
fn is_plausible(message: &peer::RaftMessage) -> bool {
    let last = message.index.saturating_add(message.entries.len() as u64);
    message.commit <= last.min(1) && message.snapshot.is_none() && message.from == 2
}

fn node() -> Node {
    let conf_state = internal::ConfState {
        voters: vec![1, 2, 3],
        ..Default::default()
    };
    let applied = internal::AppliedMark {
        index: 1,
        term: 1,
        conf_state: Some(conf_state),
        hash: None,
    };
    let restored = Restored {
        log_start: LastIncluded {
            index: Index(1),
            term: Term(1),
        },
        applied,
        ..Restored::default()
    };
    Node::new(NodeConfig::new(MemberId(1), 1), restored)
        .expect("a fresh node")
        .0
}
