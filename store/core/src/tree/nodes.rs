//! The children of a listed directory.

use std::fmt;
use std::mem;
use std::ops::Deref;

use super::NodeExtern;

/// A list of nodes, possibly nested. Directories may be nested ten thousand deep, too deep for
/// recursion on a thread's stack: drop, clone and comparison are iterative.
#[derive(Default)]
pub struct NodeExterns(Vec<NodeExtern>);

impl NodeExterns {
    /// An empty list.
    pub const fn new() -> NodeExterns {
        NodeExterns(Vec::new())
    }

    /// Appends a node.
    pub fn push(&mut self, node: NodeExtern) {
        self.0.push(node);
    }

    /// The nodes as a vector.
    pub fn into_vec(mut self) -> Vec<NodeExtern> {
        mem::take(&mut self.0)
    }
}

impl Deref for NodeExterns {
    type Target = [NodeExtern];

    fn deref(&self) -> &[NodeExtern] {
        &self.0
    }
}

impl From<Vec<NodeExtern>> for NodeExterns {
    fn from(nodes: Vec<NodeExtern>) -> NodeExterns {
        NodeExterns(nodes)
    }
}

impl<'a> IntoIterator for &'a NodeExterns {
    type Item = &'a NodeExtern;
    type IntoIter = std::slice::Iter<'a, NodeExtern>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Drop for NodeExterns {
    fn drop(&mut self) {
        let mut doomed = mem::take(&mut self.0);
        while let Some(mut node) = doomed.pop() {
            doomed.append(&mut node.nodes.0);
        }
    }
}

impl Clone for NodeExterns {
    fn clone(&self) -> NodeExterns {
        // Directories in progress, each with the children still to be copied.
        let mut begun: Vec<(NodeExtern, &[NodeExtern])> = vec![(NodeExtern::default(), self)];
        loop {
            let (_, left) = begun.last_mut().expect("the outermost is returned below");
            if let Some((next, rest)) = left.split_first() {
                *left = rest;
                begun.push((next.alone(), &next.nodes));
                continue;
            }
            let (done, _) = begun.pop().expect("there was one");
            match begun.last_mut() {
                Some((parent, _)) => parent.nodes.push(done),
                None => return done.nodes,
            }
        }
    }
}

impl PartialEq for NodeExterns {
    fn eq(&self, other: &NodeExterns) -> bool {
        let mut pairs: Vec<(&[NodeExtern], &[NodeExtern])> = vec![(self, other)];
        while let Some((one, two)) = pairs.pop() {
            if one.len() != two.len() {
                return false;
            }
            for (one, two) in one.iter().zip(two) {
                if !one.equals_alone(two) {
                    return false;
                }
                pairs.push((&one.nodes, &two.nodes));
            }
        }
        true
    }
}

impl fmt::Debug for NodeExterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
