//! What no watch delivers: leases, compactions, changes of users.

use std::collections::BTreeSet;

use keelson_proto::internal::{Replicate, ReplicatedLease};
use tracing::{info, warn};

use super::follower::{FollowError, Follower};
use super::source::SourceMember;
use super::users::ShownUsers;

/// New leases that are looked up at a poll. The others follow at the next ones, or with their keys.
const LEASES_MAX: usize = 1000;
/// Why the standby begins anew.
const USERS_CHANGED: &str = "users or roles have changed: the standby takes another snapshot; try \
                             again then";
/// The longest name that is stated, in characters.
const NAME_MAX: usize = 100;

/// What is certain of users and roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComparedUsers {
    /// They are the source's.
    Whole,
    /// But for passwords.
    Shown,
}

impl Follower<'_> {
    /// Compares what no watch delivers.
    pub(super) async fn poll(&mut self, source: &SourceMember) -> Result<(), FollowError> {
        self.look_for_room();
        self.compare_users(source).await?;
        self.compare_leases(source).await?;
        if let Some(compacted) = source.compacted_after(self.store.compacted()).await?
            && compacted <= self.store.revision()
        {
            self.compact(compacted).await?;
        }
        Ok(())
    }

    /// What is followed is not refused for space, so a warning in the log is needed.
    fn look_for_room(&mut self) {
        let has_room = self.store.has_room();
        match (*self.had_room, has_room) {
            (true, false) => warn!(
                quota = self.store.config().quota_bytes,
                "the standby has more than its --quota-backend-bytes: it goes on following, and \
                 keelson cutover is refused until there is room; give it a larger one, of at least \
                 the source's, or compact the source"
            ),
            (false, true) => info!("the standby has room within its quota again"),
            _ => {}
        }
        *self.had_room = has_room;
    }

    pub(super) async fn compact(&mut self, compacted: i64) -> Result<(), FollowError> {
        let command = Replicate {
            after: self.store.revision(),
            compacted,
            ..Replicate::default()
        };
        Ok(self.store.replicate(command).await?)
    }

    /// The API does not show the hashes of passwords.
    pub(super) async fn compare_users(&mut self, source: &SourceMember) -> Result<(), FollowError> {
        let revision = source.auth_revision().await?;
        // A member that lags, or does not show it, has a lower one.
        match revision <= self.marker.auth_revision {
            true => Ok(()),
            false => Err(FollowError::Anew(USERS_CHANGED.to_owned())),
        }
    }

    /// The same; of an etcd that does not show the revision all that it shows.
    pub(super) async fn compare_shown_users(
        &mut self,
        source: &SourceMember,
    ) -> Result<ComparedUsers, FollowError> {
        let revision = source.auth_revision().await?;
        if revision.is_some() && self.marker.auth_revision.is_some() {
            self.compare_users(source).await?;
            return Ok(ComparedUsers::Whole);
        }
        let (ours, theirs) = (
            ShownUsers::here(self.store),
            ShownUsers::there(source).await?,
        );
        if let Some(differs) = ours.difference(&theirs) {
            let differs: String = differs.chars().take(NAME_MAX).collect();
            let why = format!("{USERS_CHANGED}. The first difference: {differs}");
            return Err(FollowError::Anew(why));
        }
        Ok(match ours.has_users() {
            true => ComparedUsers::Shown,
            false => ComparedUsers::Whole,
        })
    }

    /// Grants the leases that are new at the source, at most [`LEASES_MAX`], and forgets those that
    /// have ended. Returns whether there are more new ones.
    pub(super) async fn compare_leases(
        &mut self,
        source: &SourceMember,
    ) -> Result<bool, FollowError> {
        let (ids, revision) = source.leases().await?;
        let theirs: BTreeSet<_> = ids.into_iter().collect();
        let ours: BTreeSet<_> = self.store.lease_ids().into_iter().collect();
        let mut command = Replicate {
            after: self.store.revision(),
            ..Replicate::default()
        };
        let new: Vec<_> = theirs.difference(&ours).copied().collect();
        let more = LEASES_MAX < new.len();
        for id in new.into_iter().take(LEASES_MAX) {
            let ttl = source.granted_ttl(id).await?;
            command
                .leases
                .extend(ttl.map(|ttl| ReplicatedLease { id, ttl }));
        }
        // Their keys were deleted at that revision or before: here as well. A member that lags may
        // not have them yet.
        if revision == self.store.revision() {
            command.gone = ours.difference(&theirs).copied().collect();
        }
        if !command.leases.is_empty() || !command.gone.is_empty() {
            self.store.replicate(command).await?;
        }
        Ok(more)
    }
}
