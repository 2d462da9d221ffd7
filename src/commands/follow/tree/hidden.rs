//! Hidden nodes, whose names begin with an underscore: no listing shows them but one of
//! their own name.

use std::collections::BTreeSet;

use keelson_proto::internal::TreeEvent;
use keelson_store::Store;
use keelson_store::internals::{Action, WalkScope};

use super::{TreeFollowError, TreeFollower};

impl TreeFollower<'_> {
    /// The hidden nodes that are known: by name, by an event, or since they were here before.
    pub(super) async fn hidden(&self) -> Result<BTreeSet<Vec<u8>>, TreeFollowError> {
        let named = self
            .named
            .iter()
            .map(|path| [b"/1", path.as_bytes()].concat());
        let mut hidden = self.hidden_here().await?;
        hidden.extend(self.hidden.iter().cloned().chain(named));
        Ok(hidden)
    }

    /// Those of the standby.
    pub(super) async fn hidden_here(&self) -> Result<BTreeSet<Vec<u8>>, TreeFollowError> {
        let all = WalkScope {
            recursive: true,
            hidden: true,
        };
        let hidden = move |store: &Store| {
            let below = store.tree_below(b"/1", all).into_iter();
            let hidden = below.filter(|node| is_hidden(&node.key));
            hidden.map(|node| node.key.to_vec()).collect()
        };
        Ok(self.store.compute(hidden).await?)
    }

    /// A hidden directory that an event is the first to show may have more below it.
    pub(super) fn note_hidden(&mut self, event: &TreeEvent) {
        let Some(node) = &event.node else { return };
        let updates = event.action == Action::Update as u32;
        let itself = (node.dir && updates && is_hidden(&node.key)).then_some(&node.key[..]);
        for dir in hidden_above(&node.key).chain(itself) {
            if !self.hidden.contains(dir) {
                self.hidden.insert(dir.to_vec());
                self.gaps += 1;
            }
        }
    }
}

fn is_hidden(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next();
    name.is_some_and(|name| name.starts_with(b"_"))
}

/// The hidden directories that a path leads through.
fn hidden_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let dirs = slashes.map(|(end, _)| &path[..end]);
    dirs.filter(|dir| is_hidden(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_directories_are_those_above() {
        let above: Vec<_> = hidden_above(b"/1/a/_h/b/_i/_x").collect();
        assert_eq!(above, [&b"/1/a/_h"[..], b"/1/a/_h/b/_i"]);
        assert_eq!(hidden_above(b"/1/a_/b").count(), 0);
    }
}
