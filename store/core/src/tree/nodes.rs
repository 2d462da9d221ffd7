//! What a listed directory holds.

use std::fmt;
use std::mem;
use std::ops::Deref;

use super::NodeExtern;

/// Nodes within a node. Ten thousand directories may lie within each other, and no thread's stack
/// would do for that: dropping, cloning and comparing go from one to the next instead.
#[derive(Default)]
pub struct NodeExterns(Vec<NodeExtern>);

impl NodeExterns {
    /// None.
    pub const fn new() -> NodeExterns {
        NodeExterns(Vec::new())
    }

    /// Adds one at the end.
    pub fn push(&mut self, node: NodeExtern) {
        self.0.push(node);
    }

    /// The nodes themselves.
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
        // Directories begun, each with what is still to be copied into it.
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
