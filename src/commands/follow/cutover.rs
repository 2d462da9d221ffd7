//! The end of following: the standby has all that the source has, and is opened for writes.
//!
//! No write that the source has acknowledged may be missing. So the source is fenced first, with
//! its own alarm CORRUPT: from that entry of its log on it refuses writes of keys and leases; its
//! reads and watches go on. What it has then is all, and is compared by HashKV before the opening.
//! The alarm does not refuse changes of users and roles: they are compared last. One between that
//! comparison and the opening is not here.

use std::future::Future;
use std::time::Duration;

use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{HashKvResponse, StatusResponse};
use keelson_proto::internal::Replicate;
use keelson_store::{Error, StateError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::Status;
use tracing::{info, warn};

use super::FollowPlan;
use super::error::CutoverError;
use super::follower::{FollowError, Follower};
use super::poll::ComparedUsers;
use super::source::SourceMember;
use super::tree::SettledTree;

/// How often the opening is proposed, and the pause between.
const OPENINGS_MAX: usize = 60;
const OPENING_RETRY: Duration = Duration::from_millis(500);

/// A request of `keelson cutover`.
pub(super) struct CutoverRequest {
    /// Whether the source is fenced.
    pub(super) fence: bool,
    /// The longest wait until everything is followed.
    pub(super) patience: Duration,
    /// What is printed, or why the standby is not open.
    pub(super) reply: oneshot::Sender<Result<String, String>>,
}

impl CutoverRequest {
    /// Answers before anything was done.
    pub(super) fn refuse(self, why: &str) {
        // The command may have been stopped.
        let _ = self.reply.send(Err(why.to_owned()));
    }
}

/// A cut-over that waits until the source's v2 keys are compared. Nothing is fenced yet.
pub(super) struct Preparing {
    pub(super) request: CutoverRequest,
    until: Instant,
}

impl Preparing {
    pub(super) fn new(request: CutoverRequest) -> Preparing {
        let until = Instant::now() + request.patience;
        Preparing { request, until }
    }

    /// Ends when one has waited too long, or its command has ended; never without one.
    pub(super) async fn late(preparing: &mut Option<Preparing>) {
        match preparing {
            Some(preparing) => tokio::select! {
                () = sleep_until(preparing.until) => {}
                () = preparing.request.reply.closed() => {}
            },
            None => std::future::pending().await,
        }
    }
}

/// A cut-over that waits until everything is followed.
pub(super) struct Pending {
    request: CutoverRequest,
    plan: FollowPlan,
    /// Whose alarm the fence is.
    member: u64,
    /// The last revision of the source.
    pub(super) target: i64,
    began: Instant,
}

impl Pending {
    /// Fences the source, if it is to be, and notes how far it is.
    pub(super) async fn begin(
        request: CutoverRequest,
        plan: &FollowPlan,
        source: &SourceMember,
    ) -> Result<Pending, FollowError> {
        let began = Instant::now();
        let fenced = match request.fence {
            true => {
                let member = source.member_id();
                source.fence(AlarmAction::Activate, member).await
            }
            false => Ok(()),
        };
        // The member has applied the alarm, and all before it.
        let target = match fenced {
            Ok(()) => source.status_now().await.map(|status| revision_of(&status)),
            Err(status) => Err(status),
        };
        let pending = |target| Pending {
            request,
            plan: plan.clone(),
            member: source.member_id(),
            target,
            began,
        };
        match target {
            Ok(target) => Ok(pending(target)),
            Err(status) => {
                // The fence may be up all the same.
                pending(0).failed(status.message()).await;
                Err(status.into())
            }
        }
    }

    fn until(&self) -> Instant {
        self.began + self.request.patience
    }

    /// Ends when a cut-over has waited too long, or its command has ended; never without one.
    pub(super) async fn late(pending: &mut Option<Pending>) {
        match pending {
            Some(pending) => tokio::select! {
                () = sleep_until(pending.until()) => {}
                () = pending.request.reply.closed() => {}
            },
            None => std::future::pending().await,
        }
    }

    /// Work under the fence. The source's writers wait meanwhile: no longer than the command does.
    ///
    /// # Errors
    /// Those of the work; `late` if its time is over.
    pub(super) async fn within<T, E: Into<CutoverError>>(
        &mut self,
        late: CutoverError,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CutoverError> {
        let until = self.until();
        tokio::select! {
            done = timeout_at(until, work) => match done {
                Ok(done) => done.map_err(Into::into),
                Err(_) => Err(late),
            },
            () = self.request.reply.closed() => Err(CutoverError::GivenUp),
        }
    }

    /// Whether the command has ended.
    pub(super) fn is_given_up(&self) -> bool {
        self.request.reply.is_closed()
    }

    /// Takes the fence away, and answers.
    pub(super) async fn failed(self, why: &str) {
        let mut text = why.to_owned();
        if self.request.fence
            && let Err(error) = self.end_fence().await
        {
            text += &format!(
                ". The source refuses writes: etcdctl alarm disarm ends that ({})",
                error.message()
            );
        }
        warn!(why = text, "the standby is not opened");
        // The command may have been stopped.
        let _ = self.request.reply.send(Err(text));
    }

    /// Through any member of the source: the one that was followed may be gone.
    async fn end_fence(&self) -> Result<(), Status> {
        let access = &self.plan.access;
        let mut last = Status::unavailable("--from names none");
        for url in self.plan.urls.iter().chain(&self.plan.urls) {
            let ended = match SourceMember::connect(access, url).await {
                Ok(source) => source.fence(AlarmAction::Deactivate, self.member).await,
                Err(status) => Err(status),
            };
            match ended {
                Ok(()) => return Ok(()),
                Err(status) => {
                    // The second time with a new token.
                    access.may_log_in_again(&status);
                    last = status;
                }
            }
        }
        Err(last)
    }

    /// Answers, and leaves the fence: both clusters could take writes otherwise.
    pub(super) fn unknown(self, text: String) {
        warn!(why = text, "it is not known whether the standby is open");
        let _ = self.request.reply.send(Err(text));
    }

    pub(super) fn succeeded(self, text: String) {
        info!(
            revision = self.target,
            milliseconds = self.began.elapsed().as_millis() as u64,
            "the standby is open"
        );
        let _ = self.request.reply.send(Ok(text));
    }
}

fn revision_of(status: &StatusResponse) -> i64 {
    status.header.as_ref().map_or(0, |header| header.revision)
}

impl Follower<'_> {
    /// Compares everything and opens the standby. Returns what is to be printed.
    pub(super) async fn open(
        &mut self,
        source: &SourceMember,
        pending: &mut Pending,
    ) -> Result<String, CutoverError> {
        let leases = async {
            while self.compare_leases(source).await? {}
            Ok::<_, FollowError>(())
        };
        pending.within(CutoverError::Late("leases"), leases).await?;
        let tree = self.settle_tree(pending).await?;
        let revision = self.store.revision();
        let contents = self.compare_contents(source, revision);
        let late = CutoverError::Late("v3 keys");
        let hash = pending.within(late, contents).await?.hash;
        // Last: the fence does not refuse their changes.
        let users = self.compare_shown_users(source);
        let late = CutoverError::Late("users and roles");
        let users = pending.within(late, users).await?;
        let status = source.status_now();
        let late = CutoverError::Late("revisions");
        let now = revision_of(&pending.within(late, status).await?);
        if now != revision {
            return Err(CutoverError::Written(now));
        }
        self.propose_opening(revision).await?;
        let took = pending.began.elapsed().as_millis();
        let mut text = format!(
            "This cluster is open for writes, from revision {revision} on, after {took} ms. \
             HashKV {hash} is that of {}.\n",
            source.url
        );
        text += &self.tree_text(tree).await;
        if users == ComparedUsers::Shown {
            text += "Its users and roles are compared, as far as it shows them: a password that \
                     was changed there since the standby's snapshot is the former one here.\n";
        }
        text += match pending.request.fence {
            true => {
                "The source refuses writes of v3 keys (alarm CORRUPT), and goes on serving reads \
                 of what it has; an etcd takes writes of v2 keys all the same: stop it. As long \
                 as nothing is written here, etcdctl alarm disarm at \
                 the source is the way back.\n"
            }
            false => "Stop the source: what is written to it from now on is not here.\n",
        };
        let term = source.status.raft_term;
        if self.store.status().raft_term < term {
            text += "Its Raft term is above the one here: Patroni refuses lower terms until it is \
                     restarted.\n";
        }
        Ok(text)
    }

    /// Compares all v3 keys, by HashKV.
    async fn compare_contents(
        &mut self,
        source: &SourceMember,
        revision: i64,
    ) -> Result<HashKvResponse, CutoverError> {
        let theirs = source.hash_kv(revision).await?;
        if self.store.compacted() < theirs.compact_revision {
            self.compact(theirs.compact_revision).await?;
        }
        let ours = self.store.hash_kv(revision).await?;
        match (ours.hash, ours.compact_revision) == (theirs.hash, theirs.compact_revision) {
            true => Ok(theirs),
            false => Err(CutoverError::Differs {
                revision,
                ours: ours.hash,
                theirs: theirs.hash,
                our_compaction: ours.compact_revision,
                their_compaction: theirs.compact_revision,
            }),
        }
    }

    async fn settle_tree(
        &mut self,
        pending: &mut Pending,
    ) -> Result<Option<SettledTree>, CutoverError> {
        match self.tree.at_rest() {
            Some(tree) => {
                pending
                    .within(CutoverError::TreeLate, tree.settle(true))
                    .await
            }
            None => Err(CutoverError::TreeLate),
        }
    }

    /// The answer's part about v2 keys.
    async fn tree_text(&mut self, tree: Option<SettledTree>) -> String {
        let Some(follower) = self.tree.at_rest() else {
            return String::new();
        };
        let Some(SettledTree { index, is_whole }) = tree else {
            return match follower.has_unfollowed() {
                true => "v2 keys are not followed: those that are here may be older.\n".to_owned(),
                false => String::new(),
            };
        };
        let mut text = format!(
            "Its v2 keys are those of v2 index {index}; of hidden ones those that were known.\n"
        );
        if !is_whole {
            text += "The source's v2 keys changed faster than they were compared: times to live, \
                     and hidden keys, may be older here.\n";
        }
        text + &follower.changed_since(index).await
    }

    /// Opens the standby at this revision. A proposal without an outcome may take effect later, so
    /// it is repeated until one has an outcome.
    async fn propose_opening(&mut self, revision: i64) -> Result<(), CutoverError> {
        let mut last = String::new();
        for _ in 0..OPENINGS_MAX {
            let command = Replicate {
                after: revision,
                open: true,
                ..Replicate::default()
            };
            match self.store.replicate(command).await {
                // Of an earlier one.
                Ok(()) | Err(Error::State(StateError::NoStandby)) => {
                    return match self.store.is_standby() {
                        true => Err(CutoverError::Written(self.store.revision())),
                        false => Ok(()),
                    };
                }
                Err(error) => last = error.to_string(),
            }
            sleep(OPENING_RETRY).await;
        }
        Err(CutoverError::Unknown(last))
    }
}
