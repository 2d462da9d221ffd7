//! The end of nodes that had a time to live: the leader's part.
//!
//! Only the leader's clock decides, by a proposal, so that all members agree. After a time without
//! a leader whatever is overdue would go at once, before its owner had a chance to renew it, and on a
//! platform that keeps its services alive by heartbeats every service with it. So a new leader
//! spares what was set before its time, as etcd's v3 leases are spared: for `--v2-ttl-grace`, which
//! is longer than the heartbeats of Deis (10 s) and fleet (15 s).

use std::time::{Duration, Instant};

use keelson_core::Term;
use keelson_core::node::Role;
use keelson_proto::internal::{TreeExpire, command::Op};

use super::requests::now_ns;
use crate::Store;

/// How late an expiry may be found; etcd's interval.
const TICK: Duration = Duration::from_millis(500);

/// Between two proposals: what falls due together goes together.
const PAUSE: Duration = Duration::from_millis(50);

/// One leader's time.
struct Reign {
    term: Term,
    began: Instant,
    /// The tree's index when it began.
    index: u64,
}

impl Reign {
    /// What is spared at the moment: everything set up to this index.
    fn spared(&self, grace: Duration) -> u64 {
        match self.began.elapsed() < grace {
            true => self.index,
            false => 0,
        }
    }
}

/// Proposes expiries while this member leads, until it stops.
pub(crate) async fn run(store: Store, grace: Duration) {
    let mut standing = store.inner.shared.watch_standing();
    let mut reign: Option<Reign> = None;
    while !store.is_stopping() {
        let now = *standing.borrow_and_update();
        let wait = if now.role != Role::Leader {
            reign = None;
            Duration::MAX
        } else if let Some(reign) = reign.as_ref().filter(|reign| reign.term == now.term) {
            expire(&store, reign, grace).await
        } else {
            reign = begin(&store, now.term).await;
            PAUSE
        };
        // A standing that is gone: the member is.
        if let Ok(Err(_)) = tokio::time::timeout(wait, standing.changed()).await {
            return;
        }
    }
}

/// The reign begins once everything of earlier terms is applied.
async fn begin(store: &Store, term: Term) -> Option<Reign> {
    store.read_index().await.ok()?;
    let index = store.view().tree_index();
    Some(Reign {
        term,
        began: Instant::now(),
        index,
    })
}

/// Expires what is due. Returns when to look again.
async fn expire(store: &Store, reign: &Reign, grace: Duration) -> Duration {
    let (time_ns, spared_index) = (now_ns(), reign.spared(grace));
    let due = store.view().tree_next_expiry(spared_index);
    let Some(ahead_ns) = due.map(|due| due.saturating_sub(time_ns)) else {
        return TICK;
    };
    if 0 < ahead_ns {
        let ahead = Duration::from_nanos(ahead_ns.unsigned_abs());
        return ahead.clamp(PAUSE, TICK);
    }
    let request = TreeExpire {
        time_ns,
        spared_index,
        term: reign.term.0,
    };
    if let Err(error) = store.propose(Op::TreeExpire(request)).await {
        tracing::debug!(%error, "could not expire what is overdue yet");
    }
    PAUSE
}
