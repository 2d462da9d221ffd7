//! The task that follows: it applies what the source's watch delivers, beside the work on v2 keys.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use keelson_proto::etcdserverpb::WatchResponse;
use keelson_proto::internal::ReplicatedLease;
use keelson_store::{Error, Store};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tonic::Status;
use tracing::{info, warn};

use super::batch::{self, Batch, BatchError};
use super::cutover::{CutoverRequest, Pending, Preparing};
use super::error::CutoverError;
use super::source::{self, SourceMember};
use super::tree::{TreeFollowError, TreeFollower, TreeTask};
use super::{FollowPlan, Marker};

/// How often leases, compactions and users are compared.
const POLL: Duration = Duration::from_secs(2);
/// The longest silence of a source, to which a progress request is sent at every poll.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The pause before another member of the source is tried.
const RETRY: Duration = Duration::from_millis(500);

/// Why a cut-over is refused before anything is fenced.
const NO_ROOM: &str = "this standby has more than its --quota-backend-bytes, and would refuse \
                       writes (NOSPACE): restart keelson follow with a larger one, of at least \
                       the source's, or compact the source";

/// Why it is refused when its time is over.
const TREE_LATE: &str = "the source's v2 keys were not read in time: try again";

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
                preparing: None,
                pending: None,
                tree: TreeTask::new(TreeFollower::new(&store, &plan, url, &mut hidden)),
                had_room: &mut had_room,
            };
            let ended = follower.follow(url).await;
            let (pending, preparing) = (follower.pending.take(), follower.preparing.take());
            let Err(error) = ended else { continue };
            if let Some(preparing) = preparing {
                preparing.request.refuse(&error.to_string());
            }
            if let Some(pending) = pending {
                pending.failed(&error.to_string()).await;
            }
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
    preparing: Option<Preparing>,
    pending: Option<Pending>,
    /// At rest while a cut-over is pending.
    pub(super) tree: TreeTask<'a>,
    /// Whether the standby was within its quota when that was last looked at.
    pub(super) had_room: &'a mut bool,
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
                    self.take(&mut batch, response?)?;
                    // A command costs a sync of the log, however many revisions it has.
                    while !batch.is_full()
                        && let Some(response) = watch.responses.message().now_or_never()
                    {
                        self.take(&mut batch, response?)?;
                    }
                    self.apply(&source, &mut batch).await?;
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
                        self.tree.poll();
                        heard += began.elapsed();
                    }
                }
                settled = self.tree.run(), if self.pending.is_none() => {
                    let preparing = self.preparing.take_if(|_| settled.is_some());
                    if let (Some(Preparing { request, .. }), Some(settled)) = (preparing, settled) {
                        let began = Instant::now();
                        self.begin_cut_over(request, &source, settled.err()).await?;
                        heard += began.elapsed();
                    }
                }
                Some(request) = self.cutovers.recv(), if !self.is_cutting_over() => {
                    self.prepare_cut_over(request);
                }
                () = Preparing::late(&mut self.preparing) => {
                    self.tree.settle_next(false);
                    if let Some(preparing) = self.preparing.take() {
                        preparing.request.refuse(TREE_LATE);
                    }
                }
                () = Pending::late(&mut self.pending) => self.give_up().await?,
            }
        }
    }

    fn is_cutting_over(&self) -> bool {
        self.preparing.is_some() || self.pending.is_some()
    }

    /// What is not followed yet of v2 keys is read before the source is fenced: writers wait less.
    fn prepare_cut_over(&mut self, request: CutoverRequest) {
        if !self.store.has_room() {
            request.refuse(NO_ROOM);
            return;
        }
        self.preparing = Some(Preparing::new(request));
        self.tree.settle_next(true);
    }

    /// Fences the source, unless there is an error of the comparison before.
    async fn begin_cut_over(
        &mut self,
        request: CutoverRequest,
        source: &SourceMember,
        error: Option<TreeFollowError>,
    ) -> Result<(), FollowError> {
        // Of an earlier request, if this one came while that was compared.
        self.tree.settle_next(false);
        if let Some(error) = error {
            request.refuse(&CutoverError::Tree(error).to_string());
            return Ok(());
        }
        if let Err(error) = self.compare_shown_users(source).await {
            request.refuse(&error.to_string());
            return Err(error);
        }
        // That may have taken long.
        if request.reply.is_closed() {
            return Ok(());
        }
        self.pending = Some(Pending::begin(request, self.plan, source).await?);
        Ok(())
    }

    /// Ends a cut-over that is not due: its command has ended, or its time is over.
    async fn give_up(&mut self) -> Result<(), FollowError> {
        if let Some(pending) = self.pending.take_if(|pending| pending.is_given_up()) {
            pending.failed(&CutoverError::GivenUp.to_string()).await;
            return Ok(());
        }
        let behind = "the source has more than was followed in time";
        Err(Status::deadline_exceeded(behind).into())
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

    fn take(&self, batch: &mut Batch, response: Option<WatchResponse>) -> Result<(), FollowError> {
        let ended = || Status::unavailable("its watch has ended");
        let response = response.ok_or_else(ended)?;
        if response.canceled {
            return Err(match response.compact_revision {
                0 => source::cancelled(&response.cancel_reason).into(),
                revision => FollowError::Anew(format!(
                    "the source is compacted up to revision {revision}, and this is at {}",
                    self.store.revision()
                )),
            });
        }
        Ok(batch.take(response.events, response.fragment)?)
    }

    /// Applies the whole revisions of a batch.
    async fn apply(&mut self, source: &SourceMember, batch: &mut Batch) -> Result<(), FollowError> {
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
}
