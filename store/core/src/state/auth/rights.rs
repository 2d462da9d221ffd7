//! What a user may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use keelson_proto::authpb::permission::Type;

use super::ranges::KeySet;
use super::{AuthRole, ROOT};
use crate::state::KeyRange;

/// What is not access to keys, for roles beside `root`: each of these has a role of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Hashes and alarms: `monitor`.
    Monitor,
    /// Snapshots: `backup`.
    Backup,
    /// Compactions: `compactor`.
    Compact,
    /// Defragmentation, moves of leadership and changes of alarms, and the duties above but
    /// backups, which contain every key: `operator`.
    Operate,
}

/// The built-in roles. A stored role of the same name takes the place of one.
const BUILT_IN: [(&str, &[Duty]); 4] = [
    ("monitor", &[Duty::Monitor]),
    ("backup", &[Duty::Backup]),
    ("compactor", &[Duty::Compact]),
    ("operator", &[Duty::Monitor, Duty::Compact, Duty::Operate]),
];

/// Whether Keelson has a role of this name without its being added.
pub(super) fn is_built_in(role: &str) -> bool {
    BUILT_IN.iter().any(|(name, _)| *name == role)
}

/// What a user's roles permit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    /// Everything.
    is_root: bool,
    duties: Vec<Duty>,
    read: KeySet,
    write: KeySet,
}

impl Rights {
    pub(super) fn of(names: &[String], roles: &BTreeMap<String, Arc<AuthRole>>) -> Rights {
        let stored = names.iter().filter_map(|name| roles.get(name));
        let permissions: Vec<_> = stored.flat_map(|role| &role.permissions).collect();
        let set = |kind: Type| {
            let of_kind = permissions.iter().filter(|permission| {
                let found = permission.perm_type();
                // As in etcd, one that begins with the empty key permits nothing: there the empty
                // key is the last one.
                let permits = !permission.key.is_empty();
                permits && (found == kind || found == Type::Readwrite)
            });
            KeySet::new(of_kind.map(|it| KeyRange::new(&it.key, &it.range_end)))
        };
        let built_in = BUILT_IN
            .iter()
            .filter(|(name, _)| names.iter().any(|own| own == name) && !roles.contains_key(*name));
        Rights {
            is_root: names.iter().any(|name| name == ROOT),
            duties: built_in.flat_map(|(_, duties)| *duties).copied().collect(),
            read: set(Type::Read),
            write: set(Type::Write),
        }
    }

    /// Whether they permit everything.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// Whether all keys of the range may be read.
    pub fn may_read(&self, range: KeyRange<'_>) -> bool {
        self.is_root || self.read.contains(range)
    }

    /// Whether all keys of the range may be written.
    pub fn may_write(&self, range: KeyRange<'_>) -> bool {
        self.is_root || self.write.contains(range)
    }

    /// Whether all of some keys may be read, or written. `next` finds the first of them at or after
    /// a key.
    pub(super) fn may_all<'a>(
        &self,
        write: bool,
        next: impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) -> bool {
        let set = if write { &self.write } else { &self.read };
        self.is_root || set.contains_all(next)
    }

    /// Whether they include a duty.
    pub fn has(&self, duty: Duty) -> bool {
        self.is_root || self.duties.contains(&duty)
    }
}
