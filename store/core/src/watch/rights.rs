//! The rights of a stream's caller: checked when a watcher is created, and after each change.
//!
//! etcd checks a watch at its creation alone. Here a change of rights also ends the watchers to
//! whose range the caller has lost the right: with etcd's reason, and before an event that was
//! applied after the change.

use std::collections::BTreeMap;

use super::message::{WatchContent, WatchMessage};
use super::{WatchHub, WatchStream};
use crate::state::Error;
use crate::state::auth::Access;

/// etcd's reasons for which a watcher is not created, as Go prints these errors.
const USER_EMPTY: &str = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
const INVALID_AUTH_TOKEN: &str =
    "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
const OLD_REVISION: &str =
    "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old";
const PERMISSION_DENIED: &str =
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

/// The reason in the answer to a watch that a caller may not have.
pub fn denial(error: &Error) -> &'static str {
    match error {
        Error::UserEmpty => USER_EMPTY,
        Error::InvalidAuthToken => INVALID_AUTH_TOKEN,
        Error::AuthOldRevision => OLD_REVISION,
        _ => PERMISSION_DENIED,
    }
}

impl WatchStream {
    /// Whether rights have changed since the stream's watchers were checked.
    pub(super) fn rights_moved(&self) -> bool {
        self.checked_at != WatchHub::auth_changed(&self.hub)
    }

    /// Ends the watchers to whose range the caller has lost the right. Their events that are not
    /// sent yet are dropped.
    pub(super) fn check_rights(&mut self) {
        let view = self.hub.view();
        // Before the check: a change during it is noticed by the next one.
        self.checked_at = view.auth_changed();
        let mut lost = Vec::new();
        for (_, range) in &self.ranges {
            let access = Access::Watch(range.range.keys());
            if let Err(error) = view.authorize(&self.caller, access) {
                let watchers = range.watchers.iter();
                lost.extend(watchers.map(|slot| (*slot, error.clone())));
            }
        }
        if lost.is_empty() {
            return;
        }
        let revision = view.revision();
        let mut ended = BTreeMap::new();
        for (slot, error) in lost {
            ended.insert(self.watchers[slot].id, error);
            self.remove(slot);
        }
        // Once for all of them: a stream may have 200,000.
        self.ready.retain(|message| {
            let is_event = matches!(message.content, WatchContent::Events { .. });
            !is_event || !ended.contains_key(&message.watch_id)
        });
        let denied = |(watch_id, error)| WatchMessage {
            watch_id,
            revision,
            content: WatchContent::Denied(error),
        };
        self.ready.extend(ended.into_iter().map(denied));
    }
}
