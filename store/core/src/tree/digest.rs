//! A digest of the whole tree, to compare two trees.

use super::arena::{ArenaNode, Content, ROOT};
use super::walk::{self, WalkScope};
use super::{Event, NodeExtern, Tree};

/// FNV-1a, 64 bits.
struct Digest(u64);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.raw(bytes);
    }

    fn word(&mut self, word: u64) {
        self.raw(&word.to_be_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn entry(&mut self, entry: &ArenaNode) {
        self.bytes(&entry.name);
        self.word(entry.created);
        self.word(entry.modified);
        self.word(entry.expires_ns as u64);
        self.word(entry.ttl_set);
        match &entry.content {
            Content::File(value) => self.bytes(value),
            Content::Dir(children) => self.word(children.len() as u64),
        }
        self.word(u64::from(entry.children().is_some()));
    }

    fn event(&mut self, event: &Event) {
        self.word(event.action as u64);
        self.word(event.index);
        self.node(&event.node);
        self.word(u64::from(event.prev.is_some()));
        event.prev.iter().for_each(|prev| self.node(prev));
    }

    fn node(&mut self, node: &NodeExtern) {
        self.bytes(&node.key);
        self.word(u64::from(node.value.is_some()));
        self.bytes(node.value.as_deref().unwrap_or_default());
        self.word(u64::from(node.dir));
        self.word(node.expires_ns.unwrap_or_default() as u64);
        self.word(node.ttl as u64);
        self.word(node.modified);
        self.word(node.created);
    }
}

impl Tree {
    /// The digest. It is equal for equal nodes, history and index, on any member and after any
    /// restart.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        digest.word(self.index());
        let reach = WalkScope {
            recursive: true,
            hidden: true,
        };
        for met in walk::below(&self.arena, ROOT, b"/", reach) {
            digest.word(met.depth as u64);
            digest.entry(&self.arena[met.id]);
        }
        digest.word(self.history.oldest());
        for event in self.history.from(0) {
            digest.event(event);
        }
        digest.0
    }
}
