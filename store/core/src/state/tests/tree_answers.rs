//! The tree's answers as those of the reference model.

use keelson_model::tree as model;

use crate::tree::{Event, NodeExtern, TreeError};

pub(super) fn event_of(event: &Event) -> model::Event {
    model::Event {
        action: event.action.as_str(),
        node: node_of(&event.node),
        prev: event.prev.as_ref().map(node_of),
        index: event.index,
        refresh: event.refresh,
        removed: event.removed.clone(),
    }
}

pub(super) fn node_of(node: &NodeExtern) -> model::Node {
    model::Node {
        key: node.key.clone(),
        value: node.value.clone(),
        dir: node.dir,
        expires_ns: node.expires_ns,
        ttl: node.ttl,
        nodes: node.nodes.iter().map(node_of).collect(),
        modified: node.modified,
        created: node.created,
    }
}

pub(super) fn error_of(error: TreeError) -> model::TreeError {
    model::TreeError {
        code: error.code as u16,
        cause: error.cause,
        index: error.index,
    }
}
