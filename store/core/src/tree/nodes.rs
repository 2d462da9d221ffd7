//! What a listed directory holds.

use std::fmt;
use std::mem;
use std::ops::Deref;

use super::Node;

/// Nodes within a node. Ten thousand directories may lie within each other, and no thread's stack
/// would do for that: dropping, cloning and comparing go from one to the next instead.
#[derive(Default)]
pub struct Nodes(Vec<Node>);

impl Nodes {
    /// None.
    pub const fn new() -> Nodes {
        Nodes(Vec::new())
    }

    /// Adds one at the end.
    pub fn push(&mut self, node: Node) {
        self.0.push(node);
    }

    /// The nodes themselves.
    pub fn into_vec(mut self) -> Vec<Node> {
        mem::take(&mut self.0)
    }
}

impl Deref for Nodes {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.0
    }
}

impl From<Vec<Node>> for Nodes {
    fn from(nodes: Vec<Node>) -> Nodes {
        Nodes(nodes)
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let mut doomed = mem::take(&mut self.0);
        while let Some(mut node) = doomed.pop() {
            doomed.append(&mut node.nodes.0);
        }
    }
}

impl Clone for Nodes {
    fn clone(&self) -> Nodes {
        // Directories begun, each with what is still to be copied into it.
        let mut begun: Vec<(Node, &[Node])> = vec![(Node::default(), self)];
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

impl PartialEq for Nodes {
    fn eq(&self, other: &Nodes) -> bool {
        let mut pairs: Vec<(&[Node], &[Node])> = vec![(self, other)];
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

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
