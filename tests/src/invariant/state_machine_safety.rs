//! Members that have applied the same entries have the same state: the same revision, the same
//! hash and the same digests of the v2 tree and of users and roles at the same index. Raft, figure
//! 3, "State Machine Safety"; etcd's own corruption check (`--experimental-initial-corrupt-check`)
//! came from issues such as etcd#13766.

use std::collections::HashMap;

use super::{Fact, Invariant, Ledger};

#[derive(Default)]
pub(super) struct StateMachineSafety {
    /// Applied index -> revision. Never iterated.
    revisions: HashMap<u64, i64>,
    /// Applied index -> hash. Never iterated.
    hashes: HashMap<u64, u32>,
    /// Applied index -> digest of the v2 tree. Never iterated.
    trees: HashMap<u64, u64>,
    /// Applied index -> digest of users, roles and permissions. Never iterated.
    rights: HashMap<u64, u64>,
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn observe(&mut self, fact: &Fact<'_>, _ledger: &Ledger) -> Result<(), String> {
        let Fact::Applied {
            member,
            index,
            revision,
            hash,
            tree,
            auth,
        } = fact
        else {
            return Ok(());
        };
        let first = *self.revisions.entry(index.0).or_insert(*revision);
        if first != *revision {
            return Err(format!(
                "{member} is at revision {revision} after entry {index}, others at {first}"
            ));
        }
        if let Some(auth) = auth {
            let first = *self.rights.entry(index.0).or_insert(*auth);
            if first != *auth {
                return Err(format!(
                    "{member} has other rights after entry {index}: {auth:x}, others {first:x}"
                ));
            }
        }
        if let Some(tree) = tree {
            let first = *self.trees.entry(index.0).or_insert(*tree);
            if first != *tree {
                return Err(format!(
                    "{member} has another v2 tree after entry {index}: {tree:x}, others {first:x}"
                ));
            }
        }
        let Some(hash) = hash else {
            return Ok(());
        };
        let first = *self.hashes.entry(index.0).or_insert(*hash);
        if first != *hash {
            return Err(format!(
                "{member} has hash {hash:x} after entry {index} (revision {revision}), others \
                 {first:x}"
            ));
        }
        Ok(())
    }
}
