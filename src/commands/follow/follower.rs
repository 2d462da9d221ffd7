//! The task that follows: it applies what the source's watch delivers, and looks for what no watch
//! delivers: leases, compactions, changes of users.

use std::collections::BTreeSet;
use std::time::Duration;

use keelson_proto::etcdserverpb::WatchResponse;
use keelson_proto::internal::{Replicate, ReplicatedLease};
use keelson_store::{Error, Store};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::Status;
use tracing::{info, warn};

use super::batch::{self, Batch, BatchError};
use super::cutover::{CutoverError, CutoverRequest, Pending};
use super::source::{self, SourceMember};
use super::tree::TreeFollower;
use super::{FollowPlan, Marker};

/// How often leases, compactions and users are compared.
const POLL: Duration = Duration::from_secs(2);
/// The longest silence of a source, to which a progress request is sent at every poll.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The pause before another member of the source is tried.
const RETRY: Duration = Duration::from_millis(500);
/// New leases that are looked up at a poll. The others follow at the next ones, or with their keys.
const LEASES_MAX: usize = 1000;

/// Why a cut-over is refused before anything is fenced.
const NO_ROOM: &str = "this standby has more than its --quota-backend-bytes, and would refuse \
                       writes (NOSPACE): restart keelson follow with a larger one, of at least \
                       the source's, or compact the source";

/// Why a follower stops to follow a member of the source.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// The standby must begin with a new snapshot.
    #[error("{0}")]
    Anew(String),
    /// Another member may do better.
    #[error("{}", .0.message())]
    Lost(#[from] Status),
    /// The standby's own log has failed; it is tried again.
    #[error("the standby: {0}")]
    Standby(#[from] Error),
    /// It is open: there is nothing to follow any more.
    #[error("the standby is open")]
    Opened,
}

impl From<BatchError> for FollowError {
    fn from(error: BatchError) -> FollowError {
        FollowError::Anew(error.to_string())
    }
}

/// Follows until the standby is open, or needs a new snapshot; returns why it needs one.
pub(super) async fn follow(
    store: Store,
    plan: FollowPlan,
    marker: Option<Marker>,
    mut cutovers: mpsc::Receiver<CutoverRequest>,
) -> Option<String> {
    store.ready().await;
    // Before, a member of this release counts as one that lacks the command.
    store.published().await;
    let Some(marker) = marker else {
        return Some("it is not known of which cluster it is a standby".to_owned());
    };
    let (mut warned, mut had_room) = (String::new(), true);
    let mut hidden = BTreeSet::new();
    loop {
        for url in &plan.urls {
            let mut follower = Follower {
                store: &store,
                plan: &plan,
                marker: &marker,
                cutovers: &mut cutovers,
                pending: None,
                tree: TreeFollower::new(&store, &plan, url, &mut hidden),
                had_room: &mut had_room,
            };
            let ended = follower.follow(url).await;
            let pending = follower.pending.take();
            if let (Some(pending), Err(error)) = (pending, &ended) {
                pending.failed(&error.to_string()).await;
            }
            let Err(error) = ended else { continue };
            match error {
                FollowError::Opened => return None,
                FollowError::Anew(why) => return Some(why),
                // A token has ended: the next connection has another.
                FollowError::Lost(status) if plan.access.may_log_in_again(&status) => {}
                error if error.to_string() != warned => {
                    warn!(url, %error, "the source cannot be followed; trying again");
                    warned = error.to_string();
                }
                _ => {}
            }
            sleep(RETRY).await;
        }
    }
}

pub(super) struct Follower<'a> {
    pub(super) store: &'a Store,
    plan: &'a FollowPlan,
    pub(super) marker: &'a Marker,
    cutovers: &'a mut mpsc::Receiver<CutoverRequest>,
    pending: Option<Pending>,
    pub(super) tree: TreeFollower<'a>,
    /// Whether the standby was within its quota when that was last looked at.
    had_room: &'a mut bool,
}

impl Follower<'_> {
    /// Follows one member of the source until that fails.
    async fn follow(&mut self, url: &str) -> Result<(), FollowError> {
        let source = SourceMember::connect(&self.plan.access, url).await?;
        if source.cluster() != self.marker.cluster {
            return Err(FollowError::Lost(Status::failed_precondition(format!(
                "it is of cluster {:x}, and this is a standby of cluster {:x}",
                source.cluster(),
                self.marker.cluster
            ))));
        }
        let revision = self.store.revision();
        info!(url, revision, "following");
        let mut watch = source.watch(revision + 1).await?;
        let mut batch = Batch::new(revision);
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            // Meanwhile nothing of the watch is read.
            let began = Instant::now();
            self.cut_over_when_due(&source).await?;
            heard += began.elapsed();
            tokio::select! {
                response = watch.responses.message() => {
                    let response = response?;
                    let ended = || Status::unavailable("its watch has ended");
                    self.take(&source, &mut batch, response.ok_or_else(ended)?).await?;
                    heard = Instant::now();
                }
                _ = polls.tick() => {
                    if SILENCE_MAX < heard.elapsed() {
                        return Err(Status::deadline_exceeded("it is silent").into());
                    }
                    watch.ask_progress();
                    if self.pending.is_none() {
                        let began = Instant::now();
                        self.poll(&source).await?;
                        self.tree.step(true).await;
                        heard += began.elapsed();
                    }
                }
                () = self.tree.woken() => {
                    let began = Instant::now();
                    self.tree.step(false).await;
                    heard += began.elapsed();
                }
                Some(request) = self.cutovers.recv(), if self.pending.is_none() => {
                    if request.reply.is_closed() {
                        continue;
                    }
                    if !self.store.has_room() {
                        request.refuse(NO_ROOM);
                        continue;
                    }
                    let began = Instant::now();
                    self.begin_cut_over(request, &source).await?;
                    heard += began.elapsed();
                }
                () = Pending::late(&self.pending) => {
                    let behind = "the source has more than was followed in time";
                    return Err(Status::deadline_exceeded(behind).into());
                }
            }
        }
    }

    /// What is not followed yet of v2 keys is read before the source is fenced: writers wait less.
    async fn begin_cut_over(
        &mut self,
        request: CutoverRequest,
        source: &SourceMember,
    ) -> Result<(), FollowError> {
        let settled = timeout(request.patience, self.tree.settle(false)).await;
        match settled {
            Ok(Ok(_)) => {
                self.pending = Some(Pending::begin(request, self.plan, source).await?);
            }
            Ok(Err(error)) => request.refuse(&CutoverError::Tree(error).to_string()),
            Err(_) => request.refuse("the source's v2 keys were not read in time: try again"),
        }
        Ok(())
    }

    async fn cut_over_when_due(&mut self, source: &SourceMember) -> Result<(), FollowError> {
        let revision = self.store.revision();
        let due = self.pending.take_if(|pending| pending.target <= revision);
        let Some(mut pending) = due else {
            return Ok(());
        };
        if pending.is_given_up() {
            pending.failed(&CutoverError::GivenUp.to_string()).await;
            return Ok(());
        }
        match self.open(source, &mut pending).await {
            Ok(text) => {
                pending.succeeded(text);
                Err(FollowError::Opened)
            }
            Err(error @ CutoverError::Unknown(_)) => {
                pending.unknown(error.to_string());
                Err(FollowError::Opened)
            }
            Err(error) => {
                pending.failed(&error.to_string()).await;
                match error {
                    CutoverError::Follow(error) => Err(error),
                    CutoverError::Differs { .. } => Err(FollowError::Anew(error.to_string())),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn take(
        &mut self,
        source: &SourceMember,
        batch: &mut Batch,
        response: WatchResponse,
    ) -> Result<(), FollowError> {
        if response.canceled {
            return Err(match response.compact_revision {
                0 => source::cancelled(&response.cancel_reason).into(),
                revision => FollowError::Anew(format!(
                    "the source is compacted up to revision {revision}, and this is at {}",
                    self.store.revision()
                )),
            });
        }
        batch.take(response.events, response.fragment)?;
        while let Some(mut command) = batch.next_command() {
            for id in batch::leases(&command) {
                if !self.store.has_lease(id) {
                    let ttl = source.granted_ttl(id).await?;
                    command
                        .leases
                        .extend(ttl.map(|ttl| ReplicatedLease { id, ttl }));
                }
            }
            let end = command.after + command.revisions.len() as i64;
            self.store.replicate(command).await?;
            let revision = self.store.revision();
            if revision < end {
                let why = format!("a change of revision {end} did not take effect here");
                return Err(FollowError::Anew(why));
            }
            if end < revision {
                // An earlier proposal, of unknown outcome, has taken effect: the watch begins anew
                // behind it.
                return Err(Status::aborted("more was followed than was known").into());
            }
        }
        Ok(())
    }

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

    pub(super) async fn compact(&self, compacted: i64) -> Result<(), FollowError> {
        let command = Replicate {
            after: self.store.revision(),
            compacted,
            ..Replicate::default()
        };
        Ok(self.store.replicate(command).await?)
    }

    /// The API does not show the hashes of passwords.
    pub(super) async fn compare_users(&self, source: &SourceMember) -> Result<(), FollowError> {
        let revision = source.auth_revision().await?;
        // A member that lags, or does not show it, has a lower one.
        match revision <= self.marker.auth_revision {
            true => Ok(()),
            false => Err(FollowError::Anew("users or roles have changed".to_owned())),
        }
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
