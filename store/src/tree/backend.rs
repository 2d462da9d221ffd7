//! Implements the v2 API's backend trait for [`Store`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keelson_core::MemberId;
use keelson_core::node::Role;
use keelson_core::tree::{Event, NodeExtern, TreeError};
use keelson_edge::v2::{
    FollowerStats, LeaderStats, LogLevel, Rate, SelfStats, TreeBackend, TreeWatch, WatchEnd,
};
use keelson_proto::internal::TreeRequest;

use super::{ChangeError, Watch, WatchSpec, requests};
use crate::Store;
use crate::member::traffic::{Flow, Latency};
use crate::usage::Use;

impl TreeWatch for Watch {
    fn index(&self) -> u64 {
        self.index
    }

    fn now(&mut self) -> Option<Arc<Event>> {
        Watch::now(self)
    }

    fn next(&mut self) -> impl Future<Output = Option<Arc<Event>>> + Send {
        Watch::next(self)
    }

    fn end(&self) -> Option<WatchEnd> {
        Watch::end(self)
    }
}

impl TreeBackend for Store {
    type Watch = Watch;

    fn tree_get(&self, path: &[u8], recursive: bool) -> Result<(NodeExtern, u64), TreeError> {
        Store::tree_get(self, path, recursive)
    }

    fn tree_list(
        &self,
        path: &[u8],
        recursive: bool,
        bytes_max: usize,
    ) -> Result<(NodeExtern, u64), TreeError> {
        let listed = Store::tree_list(self, path, recursive, bytes_max)?;
        let bytes = listed.0.value.as_ref().map_or(0, |value| value.len());
        self.inner.account.v2(path, Use::read(bytes));
        Ok(listed)
    }

    async fn tree_change(&self, request: TreeRequest) -> Result<Arc<Event>, ChangeError> {
        let path = request.path.clone();
        let bytes = path.len() + request.value.len();
        let event = Store::tree_change(self, request).await?;
        self.inner.account.v2(&path, Use::written(bytes));
        Ok(event)
    }

    fn tree_watch(&self, spec: WatchSpec) -> Result<Watch, TreeError> {
        Store::tree_watch(self, spec)
    }

    fn raft_mark(&self) -> (u64, u64) {
        let index = self.inner.shared.node().committed.0;
        (index, self.inner.shared.shown_term())
    }

    fn now_ns(&self) -> i64 {
        requests::now_ns()
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.view().removed(member.0)
    }

    fn self_stats(&self) -> SelfStats {
        let soft_state = self.inner.shared.soft_state();
        let counts = self.inner.shared.traffic.counts();
        let elected = self.inner.shared.leader_elected();
        let ago = elected.map(|elected| elected.elapsed());
        let led_since = ago.map(|ago| SystemTime::now() - ago);
        SelfStats {
            name: self.config().name.clone(),
            id: self.member_id(),
            leads: soft_state.role == Role::Leader,
            started_ns: ns_since_1970(self.inner.started),
            leader: soft_state.leader,
            led_since_ns: led_since.map_or(0, ns_since_1970),
            append_requests_received: counts.received.count,
            append_requests_sent: counts.sent.count,
            received_rate: rate(&counts.received),
            sent_rate: rate(&counts.sent),
        }
    }

    fn leader_stats(&self) -> Option<LeaderStats> {
        if self.inner.shared.soft_state().role != Role::Leader {
            return None;
        }
        let counts = self.inner.shared.traffic.counts();
        let mut others: Vec<MemberId> = self
            .inner
            .shared
            .peers()
            .into_iter()
            .map(|peer| peer.id)
            .collect();
        others.sort_unstable();
        let latency = |id| counts.followers.get(id).copied().unwrap_or_default();
        Some(LeaderStats {
            leader: self.member_id(),
            followers: others
                .iter()
                .map(|id| follower(*id, &latency(id)))
                .collect(),
        })
    }

    fn tree_expired(&self) -> u64 {
        self.inner.shared.expired()
    }

    fn tree_watchers(&self) -> u64 {
        self.inner.hub.count() as u64
    }

    fn set_log_level(&self, level: LogLevel) {
        if let Some(control) = self.inner.log_control.get() {
            control(level);
        }
    }
}

fn follower(id: MemberId, latency: &Latency) -> FollowerStats {
    FollowerStats {
        id,
        latency_current: latency.current,
        latency_average: latency.average(),
        latency_deviation: latency.deviation(),
        latency_min: latency.min,
        latency_max: latency.max,
        failed: latency.failures,
        succeeded: latency.answers,
    }
}

fn rate(flow: &Flow) -> Rate {
    let (appends, bytes) = flow.rates();
    Rate { appends, bytes }
}

fn ns_since_1970(time: SystemTime) -> i64 {
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    i64::try_from(since).unwrap_or(i64::MAX)
}
