//! The v2 keys at a cut-over. Nothing fences an etcd's writers of v2 keys: what they change after
//! the last comparison is named.

use std::collections::BTreeSet;

use keelson_proto::internal::TreeEvent;
use tokio::time::timeout;

use super::source::{TreeSourceError, Wait};
use super::{SILENT, TreeFollowError, TreeFollower};

/// How often a cut-over begins again because the source's v2 keys have changed meanwhile.
const SETTLE_MAX: usize = 3;
/// The paths that are named in a message.
const NAMED_MAX: usize = 5;

impl TreeFollower<'_> {
    /// Follows all that is there now. Returns the index; `None` if there are no v2 keys.
    pub(in crate::commands::follow) async fn settle(
        &mut self,
    ) -> Result<Option<u64>, TreeFollowError> {
        if self.is_off {
            return Ok(None);
        }
        for _ in 0..SETTLE_MAX {
            match self.compare().await {
                Err(TreeFollowError::Source(TreeSourceError::Off)) => return Ok(None),
                compared => compared?,
            }
            if self.index().await? == self.store.tree_index() {
                break;
            }
        }
        Ok(Some(self.store.tree_index()))
    }

    /// What the source has changed since an index, as a text; empty if it has nothing.
    pub(in crate::commands::follow) async fn changed_since(&mut self, index: u64) -> String {
        self.pending = None;
        match self.read_since(index).await {
            Ok((false, _)) => String::new(),
            Ok((true, paths)) => {
                let named: Vec<_> = paths.into_iter().take(NAMED_MAX).collect();
                let named = match named.is_empty() {
                    true => "renewals of times to live".to_owned(),
                    false => named.join(" "),
                };
                format!(
                    "The source's v2 keys have changed after v2 index {index}, and these changes \
                     are not here: {named}\n"
                )
            }
            Err(error) => format!(
                "Whether the source's v2 keys have changed after v2 index {index} is not known: \
                 {error}\n"
            ),
        }
    }

    async fn read_since(
        &mut self,
        index: u64,
    ) -> Result<(bool, BTreeSet<String>), TreeFollowError> {
        let now = self.index().await?;
        let (mut at, mut paths) = (index, BTreeSet::new());
        while at < now && paths.len() <= NAMED_MAX {
            let Wait::Begun(mut pending) = self.source.wait(at + 1).await? else {
                break;
            };
            match timeout(SILENT, pending.event(&mut self.source)).await {
                Ok(Ok(Some(TreeEvent { index, node, .. }))) if at < index => {
                    at = index;
                    let key = node.unwrap_or_default().key;
                    paths.insert(String::from_utf8_lossy(&key[2.min(key.len())..]).into_owned());
                }
                Ok(Err(error)) => return Err(error.into()),
                _ => break,
            }
        }
        Ok((index < now, paths))
    }
}
