//! The end of following: the standby has all that the source has, and is opened for writes.
//!
//! No write that the source has acknowledged may be missing. So the source is fenced first, with
//! its own alarm CORRUPT: from that entry of its log on it refuses reads and writes of keys and
//! leases, and its watches go on. What it has then is all, and is compared by HashKV before the
//! opening.

use std::time::Duration;

use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::internal::Replicate;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tracing::{info, warn};

use super::follower::{FollowError, Follower};
use super::source::SourceMember;

/// A request of `keelson cutover`.
pub(super) struct CutoverRequest {
    /// Whether the source is fenced.
    pub(super) fence: bool,
    /// The longest wait until everything is followed.
    pub(super) patience: Duration,
    /// What is printed, or why the standby is not open.
    pub(super) reply: oneshot::Sender<Result<String, String>>,
}

/// Why the standby is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutoverError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(
        "the contents differ at revision {revision}: HashKV {ours} here and {theirs} at the \
         source, compacted {our_compaction} and {their_compaction}. Empty the data directory of \
         the standby, and follow anew"
    )]
    Differs {
        revision: i64,
        ours: u32,
        theirs: u32,
        our_compaction: i64,
        their_compaction: i64,
    },
    #[error(
        "the source is still written to: it is at revision {0} now. Stop its writers, or leave \
         out --no-fence"
    )]
    Written(i64),
}

impl From<Status> for CutoverError {
    fn from(status: Status) -> CutoverError {
        FollowError::from(status).into()
    }
}

impl From<keelson_store::Error> for CutoverError {
    fn from(error: keelson_store::Error) -> CutoverError {
        FollowError::from(error).into()
    }
}

/// A cut-over that waits until everything is followed.
pub(super) struct Pending {
    request: CutoverRequest,
    source: SourceMember,
    /// The last revision of the source.
    pub(super) target: i64,
    began: Instant,
}

impl Pending {
    /// Fences the source, if it is to be, and notes how far it is.
    pub(super) async fn begin(
        request: CutoverRequest,
        source: &SourceMember,
    ) -> Result<Pending, FollowError> {
        let began = Instant::now();
        let fenced = match request.fence {
            true => source.fence(AlarmAction::Activate).await,
            false => Ok(()),
        };
        // The member has applied the alarm, and all before it.
        let target = match fenced {
            Ok(()) => source.status_now().await.map(|status| revision_of(&status)),
            Err(status) => Err(status),
        };
        let pending = |target| Pending {
            request,
            source: source.clone(),
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

    /// Ends when a cut-over has waited too long; never without one.
    pub(super) async fn late(pending: &Option<Pending>) {
        match pending {
            Some(pending) => sleep_until(pending.began + pending.request.patience).await,
            None => std::future::pending().await,
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
            && let Err(error) = self.source.fence(AlarmAction::Deactivate).await
        {
            text += &format!(
                ". The source refuses requests: etcdctl alarm disarm ends that ({})",
                error.message()
            );
        }
        warn!(why = text, "the standby is not opened");
        // The command may have been stopped.
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

fn revision_of(status: &keelson_proto::etcdserverpb::StatusResponse) -> i64 {
    status.header.as_ref().map_or(0, |header| header.revision)
}

impl Follower<'_> {
    /// Compares everything and opens the standby. Returns what is to be printed.
    pub(super) async fn open(
        &mut self,
        source: &SourceMember,
        pending: &Pending,
    ) -> Result<String, CutoverError> {
        self.compare_users(source).await?;
        self.compare_leases(source).await?;
        let revision = self.store.revision();
        let theirs = source.hash_kv(revision).await?;
        if self.store.compacted() < theirs.compact_revision {
            self.compact(theirs.compact_revision).await?;
        }
        let ours = self.store.hash_kv(revision).await?;
        if (ours.hash, ours.compact_revision) != (theirs.hash, theirs.compact_revision) {
            return Err(CutoverError::Differs {
                revision,
                ours: ours.hash,
                theirs: theirs.hash,
                our_compaction: ours.compact_revision,
                their_compaction: theirs.compact_revision,
            });
        }
        let now = revision_of(&source.status_now().await?);
        if now != revision {
            return Err(CutoverError::Written(now));
        }
        let command = Replicate {
            after: revision,
            open: true,
            ..Replicate::default()
        };
        self.store.replicate(command).await?;
        let took = pending.began.elapsed().as_millis();
        let mut text = format!(
            "This cluster is open for writes, from revision {revision} on, after {took} ms. \
             HashKV {} is that of {}.\n",
            ours.hash, source.url
        );
        text += match pending.request.fence {
            true => {
                "The source refuses reads and writes of keys (alarm CORRUPT): stop it. As long as \
                 nothing is written here, etcdctl alarm disarm at the source is the way back.\n"
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
}
