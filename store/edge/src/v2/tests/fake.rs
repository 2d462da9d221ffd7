//! The edge's fake member, with the real tree and a constant clock.

use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::state::{self, Response};
use keelson_core::tree::watchers::WatchSpec;
use keelson_core::tree::{Event, NodeExtern, TreeError};
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::command::Op;

use crate::tests::fake::Fake;
use crate::tests::hub::FakeWatch;
use crate::v2::{ChangeError, FollowerStats, LeaderStats, LogLevel, SelfStats, TreeBackend};
use crate::{Backend, Error};

/// 2026-11-23T02:39:13.5Z
pub(super) const NOW_NS: i64 = 1_795_401_553_500_000_000;

/// Raft's index and term, constant.
pub(super) const RAFT: (u64, u64) = (11, 2);

impl TreeBackend for Fake {
    type Watch = FakeWatch;

    fn tree_get(&self, path: &[u8], recursive: bool) -> Result<(NodeExtern, u64), TreeError> {
        self.view().tree_get(path, recursive, NOW_NS)
    }

    fn tree_list(
        &self,
        path: &[u8],
        recursive: bool,
        bytes_max: usize,
    ) -> Result<(NodeExtern, u64), TreeError> {
        self.view().tree_list(path, recursive, NOW_NS, bytes_max)
    }

    async fn tree_change(&self, request: TreeRequest) -> Result<Arc<Event>, ChangeError> {
        if self.condition().leaderless {
            return Err(Error::Timeout.into());
        }
        match self.apply(Op::Tree(request))? {
            Ok(Response::Tree(event)) => Ok(event),
            Err(state::Error::Tree(error)) => Err(ChangeError::Tree(error)),
            other => panic!("answered with {other:?}"),
        }
    }

    fn tree_watch(&self, spec: WatchSpec) -> Result<FakeWatch, TreeError> {
        self.watch_tree(spec)
    }

    fn raft_mark(&self) -> (u64, u64) {
        RAFT
    }

    fn now_ns(&self) -> i64 {
        NOW_NS
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.condition().removed.contains(&member.0)
    }

    fn self_stats(&self) -> SelfStats {
        SelfStats {
            name: "m1".to_owned(),
            id: MemberId(0xcafe),
            leads: true,
            started_ns: NOW_NS - 2_000_000_000,
            leader: MemberId(0xcafe),
            led_since_ns: NOW_NS - 1_500_000_000,
            ..SelfStats::default()
        }
    }

    fn leader_stats(&self) -> Option<LeaderStats> {
        (self.leader() != MemberId::NONE).then(|| LeaderStats {
            leader: self.leader(),
            followers: Vec::<FollowerStats>::new(),
        })
    }

    fn tree_expired(&self) -> u64 {
        0
    }

    fn tree_watchers(&self) -> u64 {
        u64::try_from(self.hub().count()).unwrap()
    }

    fn set_log_level(&self, _level: LogLevel) {}
}
