//! A downgrade of the cluster by one minor version, as etcd has it.
//!
//! While it is in progress the cluster has the version below, and takes no command that the release
//! before this one does not understand: neither the log nor the engine gets anything that keeps
//! that release from starting. It ends by itself with the entry by which the last member states
//! that it runs the release before, or when it is cancelled. The cluster version then stays as it
//! is until every member is of a newer release again.

use keelson_proto::internal::Downgrade;
use keelson_proto::internal::command::Op;

use super::error::Error;
use super::gate::{PREVIOUS_COMMAND_VERSION, needed};
use super::registry::Registry;
use super::{Response, StateMachine, meta};
use crate::engine::{Change, Table};

/// The cluster version one minor below, with which etcd permits a downgrade. `None` below 3.0, and
/// for what is no version.
pub fn version_below(version: &str) -> Option<String> {
    let mut parts = version.split('.').map(str::parse::<u64>);
    let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
    Some(format!("{major}.{}.0", minor.checked_sub(1)?))
}

impl StateMachine {
    /// Begins a downgrade, or cancels it.
    pub(super) fn apply_downgrade(&mut self, request: Downgrade) -> Result<Response, Error> {
        let mut registry = Registry::clone(&self.registry);
        match (registry.downgrade.is_some(), request.target.is_empty()) {
            (true, false) => return Err(Error::DowngradeInProgress),
            (false, true) => return Err(Error::NoDowngrade),
            (true, true) => self.forget_downgrade(&mut registry),
            (false, false) => {
                let below = registry.version.as_deref().and_then(version_below);
                if below.as_ref() != Some(&request.target) {
                    return Err(Error::InvalidDowngradeTarget);
                }
                let row = Change::Put(request.target.clone().into());
                self.change(Table::Meta, meta::DOWNGRADE.into(), row);
                registry.downgrade = below;
                self.set_version(&mut registry, request.target);
            }
        }
        self.set_registry(registry);
        Ok(Response::Empty)
    }

    /// Ends the downgrade once no member is newer than its target.
    pub(super) fn end_downgrade(&mut self, registry: &mut Registry) {
        let newest = registry.started().max().unwrap_or_default();
        if registry.downgrade.is_some() && newest <= PREVIOUS_COMMAND_VERSION {
            self.forget_downgrade(registry);
        }
    }

    fn forget_downgrade(&mut self, registry: &mut Registry) {
        registry.downgrade = None;
        self.change(Table::Meta, meta::DOWNGRADE.into(), Change::Delete);
    }

    /// The error for a command that the target of the downgrade does not understand. It was
    /// proposed before the downgrade began, and comes after it in the log.
    pub(super) fn too_new(&self, op: &Op) -> Option<Error> {
        let is_held = self.registry.downgrade.is_some() && !matches!(op, Op::Downgrade(_));
        (is_held && PREVIOUS_COMMAND_VERSION < needed(op)).then_some(Error::NotEveryMember)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_one_minor_below() {
        let cases = [
            ("3.5.0", Some("3.4.0")),
            ("3.10.7", Some("3.9.0")),
            ("4.0.0", None),
            ("3", None),
            ("three.five", None),
        ];
        for (version, below) in cases {
            assert_eq!(version_below(version).as_deref(), below, "{version}");
        }
    }
}
