//! etcd's checks for corruption, by HashKV: at the start, at an interval, and after compactions.
//!
//! They read all pairs, so they see what no entry has touched, and are off by default. A difference
//! raises the alarm CORRUPT. What applying an entry changes is compared without them
//! (`keelson_core`'s running hash).

use std::time::Duration;

use futures_util::future::join_all;
use keelson_core::member::{AuditPolicy, PairsJudgement, judge_pairs};
use keelson_core::node::Role;
use keelson_core::{MemberId, state};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;
use tokio::time::Instant;
use tonic::Code;

use crate::submit::AtTimeout;
use crate::{Error, OpenError, Store, peer};

/// How members are compared with each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorruptionChecks {
    /// When running hashes are compared: after 4,096 entries, or 10 s after the last one.
    pub audits: AuditPolicy,
    /// Compare the pairs with the other members' at the start, and refuse it if they differ.
    pub at_start: bool,
    /// The interval at which the leader compares the members' pairs, in milliseconds; 0 for never.
    pub periodic_ms: u64,
    /// The same, at the revision of the last compaction.
    pub compactions_ms: u64,
}

/// How often a peer that has not applied the revision yet, or computes another hash, is queried.
const ATTEMPTS: u32 = 10;
/// The pause before the second query; it doubles with each, up to `PAUSE_MAX`.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// The hashes at one revision.
struct Hashes {
    /// This member's.
    own: HashKvResponse,
    /// The others', of the same compaction.
    others: Vec<(MemberId, u32)>,
    /// Whether all others gave one.
    is_complete: bool,
}

/// Queries a peer, again while it is behind.
async fn hash_of(store: &Store, peer: &peer::PeerAddress, revision: i64) -> Option<HashKvResponse> {
    let tls = store.inner.links.tls();
    let future = Error::State(state::Error::FutureRev).to_string();
    let mut pause = PAUSE;
    for _ in 0..ATTEMPTS {
        let status = match peer::request_hash_kv(&peer.urls, tls, revision).await {
            Ok(hash) => return Some(hash),
            Err(status) => status,
        };
        if status.message() != future && status.code() != Code::ResourceExhausted {
            tracing::warn!(peer = %peer.id, why = status.message(), "cannot fetch the hash");
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
    tracing::warn!(peer = %peer.id, revision, "cannot fetch hash from slow remote peer");
    None
}

/// The hashes of all members at a revision; 0 is this member's current one.
async fn hashes(store: &Store, revision: i64) -> Result<Hashes, Error> {
    let own = store.hash_kv(revision).await?;
    let peers = store.inner.shared.peers();
    let queries = peers
        .iter()
        .map(|peer| hash_of(store, peer, own.hash_revision));
    let answers = join_all(queries).await;
    let comparable = answers.iter().zip(&peers).filter_map(|(hash, peer)| {
        let hash = hash.as_ref()?;
        let same = hash.compact_revision == own.compact_revision;
        same.then_some((peer.id, hash.hash))
    });
    let others: Vec<_> = comparable.collect();
    Ok(Hashes {
        is_complete: others.len() == peers.len(),
        own,
        others,
    })
}

/// Compares this member's pairs with the others' before it serves, and goes on to compare in the
/// background, as far as that is configured.
///
/// # Errors
/// [`OpenError::Inconsistent`] if any differs: the member has stopped. A member that does not
/// answer counts for nothing.
pub(crate) async fn begin(store: Store) -> Result<Store, OpenError> {
    if store.config().corruption.at_start
        && !store.view().is_fenced()
        && let Err(error) = check_at_start(&store).await
    {
        store.shutdown().await;
        return Err(error);
    }
    store.spawn(run(store.clone()));
    Ok(store)
}

async fn check_at_start(store: &Store) -> Result<(), OpenError> {
    tracing::info!("starting initial corruption check");
    let hashes = hashes(store, 0).await;
    let Hashes { own, others, .. } =
        hashes.map_err(|error| OpenError::Internal(error.to_string()))?;
    for (peer, hash) in &others {
        if *hash != own.hash {
            tracing::error!(
                %peer, own = own.hash, theirs = hash, revision = own.hash_revision,
                "found different hash values from remote peer"
            );
            return Err(OpenError::Inconsistent(store.member_id()));
        }
    }
    tracing::info!(
        compared = others.len(),
        "initial corruption checking passed; no corruption"
    );
    Ok(())
}

/// Compares at the configured intervals while this member is the leader, until it stops.
async fn run(store: Store) {
    let checks = store.config().corruption;
    let mut periodic = Interval::new(checks.periodic_ms);
    let mut compactions = Interval::new(checks.compactions_ms);
    let mut checked = 0;
    let mut stopping = store.watch_stopping();
    while let Some(due) = [periodic.due, compactions.due].into_iter().flatten().min() {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        // The running hash has found what is wrong with a fenced member.
        let leads = store.inner.shared.soft_state().role == Role::Leader;
        let leads = leads && !store.view().is_fenced();
        if periodic.passes() && leads {
            compare(&store, 0).await;
        }
        let compacted = store.view().compact_revision();
        if compactions.passes() && leads && checked < compacted && compare(&store, compacted).await
        {
            checked = compacted;
        }
    }
}

/// Compares at one revision. Returns whether all members were compared.
async fn compare(store: &Store, revision: i64) -> bool {
    let found = match hashes(store, revision).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "failed to check hash kv");
            return false;
        }
    };
    let mut all = found.others;
    all.push((store.member_id(), found.own.hash));
    let members = store.view().members();
    let voters = members.iter().filter(|member| !member.is_learner);
    let voters: Vec<_> = voters.map(|member| MemberId(member.id)).collect();
    let corrupt = match judge_pairs(&voters, &all) {
        PairsJudgement::Same => Vec::new(),
        PairsJudgement::Differ(members) => members,
        // As in etcd: the alarm of no member.
        PairsJudgement::Undecided => vec![MemberId::NONE],
    };
    for member in corrupt {
        let revision = found.own.hash_revision;
        tracing::error!(%member, revision, hashes = ?all, "found hash mismatch");
        if let Err(error) = raise(store, member).await {
            tracing::warn!(%error, "the alarm CORRUPT was not raised");
        }
    }
    found.is_complete
}

async fn raise(store: &Store, member: MemberId) -> Result<(), Error> {
    let corrupt = AlarmType::Corrupt;
    let is_raised = |alarm: &AlarmMember| (alarm.member_id, alarm.alarm()) == (member.0, corrupt);
    if store.view().alarms().iter().any(is_raised) {
        return Ok(());
    }
    let alarm = AlarmRequest {
        action: alarm_request::AlarmAction::Activate.into(),
        member_id: member.0,
        alarm: corrupt.into(),
    };
    let raised = store.submit_signed(Op::Alarm(alarm), AtTimeout::Forget);
    raised.await.map(drop).map_err(|failed| failed.error)
}

/// When a check is due next; never with an interval of 0.
struct Interval {
    every: Duration,
    due: Option<Instant>,
}

impl Interval {
    fn new(every_ms: u64) -> Interval {
        let every = Duration::from_millis(every_ms);
        let due = (every_ms != 0).then(|| Instant::now() + every);
        Interval { every, due }
    }

    /// Whether it was due; then it is due again after the interval.
    fn passes(&mut self) -> bool {
        let now = Instant::now();
        let passed = self.due.is_some_and(|due| due <= now);
        if passed {
            self.due = Some(now + self.every);
        }
        passed
    }
}
