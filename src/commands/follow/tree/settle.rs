//! The v2 keys at a cut-over. Nothing fences an etcd's writers of v2 keys: what they change after
//! the last comparison is named as far as the source shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use keelson_store::internals::WalkScope;
use tokio::time::timeout;

use super::source::{TreeSourceError, Wait};
use super::{TreeFollowError, TreeFollower};

/// How often a cut-over compares because the source's v2 keys have changed meanwhile.
const SETTLE_MAX: usize = 3;
/// The paths that are named in a message.
const NAMED_MAX: usize = 5;
/// The longest wait for an event that is named in a message.
const NAMED_WAIT: Duration = Duration::from_secs(1);

/// The v2 keys that are there at a cut-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands::follow) struct SettledTree {
    /// The source's index.
    pub(in crate::commands::follow) index: u64,
    /// Whether everything that is known at that index is here, also what no event shows.
    pub(in crate::commands::follow) is_whole: bool,
}

/// What a source has changed after an index.
struct ChangedTree {
    is_changed: bool,
    /// Some of the keys.
    paths: BTreeSet<String>,
    /// Whether there are no others, as far as events show.
    is_all: bool,
}

impl TreeFollower<'_> {
    /// Follows all that is there now, and compares it: once the source is fenced, only if events
    /// have not shown all since. `None` if there are no v2 keys.
    pub(in crate::commands::follow) async fn settle(
        &mut self,
        is_fenced: bool,
    ) -> Result<Option<SettledTree>, TreeFollowError> {
        if self.is_off {
            return Ok(None);
        }
        if !is_fenced {
            self.compared_gaps = None;
        }
        let mut compared = 0;
        loop {
            let index = match self.index().await {
                Err(TreeSourceError::Off) => return Ok(None),
                index => index?,
            };
            if !self.is_outrun() {
                self.catch_up(index).await?;
            }
            let is_there = self.store.tree_index() == index;
            let is_whole = is_there && !self.is_unsure();
            if is_whole || compared == SETTLE_MAX {
                let index = self.store.tree_index();
                return Ok(Some(SettledTree { index, is_whole }));
            }
            self.compare().await?;
            compared += 1;
        }
    }

    /// Whether the standby has v2 keys that are not followed: those of a snapshot of Keelson.
    pub(in crate::commands::follow) fn has_unfollowed(&self) -> bool {
        let children = WalkScope {
            recursive: false,
            hidden: true,
        };
        !self.store.tree_below(b"/1", children).is_empty()
    }

    /// What the source has changed since an index, as a text; empty if it has nothing.
    pub(in crate::commands::follow) async fn changed_since(&mut self, index: u64) -> String {
        self.pending = None;
        let changed = match self.read_since(index).await {
            Ok(changed) if !changed.is_changed => return String::new(),
            Ok(changed) => changed,
            Err(error) => {
                return format!(
                    "Whether the source's v2 keys have changed after v2 index {index} is not \
                     known: {error}\n"
                );
            }
        };
        let named: Vec<_> = changed.paths.into_iter().take(NAMED_MAX).collect();
        let named = match (named.is_empty(), changed.is_all) {
            (true, true) => "no event shows what: renewals of times to live, for example".into(),
            (true, false) => "what it is was not read in time".to_owned(),
            (false, true) => named.join(" "),
            (false, false) => format!("{} and possibly others", named.join(" ")),
        };
        format!(
            "The source's v2 keys have changed after v2 index {index}, and these changes are not \
             here: {named}\n"
        )
    }

    async fn read_since(&mut self, index: u64) -> Result<ChangedTree, TreeFollowError> {
        let now = self.index().await?;
        let mut changed = ChangedTree {
            is_changed: index < now,
            paths: BTreeSet::new(),
            is_all: true,
        };
        let mut at = index;
        while at < now {
            let wait = match changed.paths.len() <= NAMED_MAX {
                true => self.source.wait(at + 1).await?,
                false => Wait::Cleared { oldest: at + 1 },
            };
            // Or there are too many to name.
            let Wait::Begun(mut pending) = wait else {
                changed.is_all = false;
                break;
            };
            match timeout(NAMED_WAIT, pending.event(&mut self.source)).await {
                Ok(Ok(Some(event))) if at < event.index => {
                    at = event.index;
                    let key = event.node.unwrap_or_default().key;
                    let shown = &key[2.min(key.len())..];
                    let shown = String::from_utf8_lossy(shown).into_owned();
                    changed.paths.insert(shown);
                }
                Ok(Err(error)) => return Err(error.into()),
                // Nothing more has an event.
                Err(_) => break,
                Ok(_) => {
                    changed.is_all = false;
                    break;
                }
            }
        }
        Ok(changed)
    }
}
