//! Membership, status and leadership requests.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use keelson_core::MemberId;
use keelson_core::node::{Input, Role};
use keelson_core::state::auth::{Access, Duty};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::member_change::Op;

use crate::config::{Url, identity};
use crate::member::worker::WorkerEvent;
use crate::{Error, Store, version};

impl Store {
    /// The members, by id.
    ///
    /// # Errors
    /// A timeout when a linearizable list is requested and there is no quorum; `Corrupt`.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        if linearizable {
            self.read_index().await?;
        }
        self.view().require_unfenced()?;
        self.authorize(Access::AnyUser)?;
        Ok(MemberListResponse {
            header: self.member_header(),
            members: self.view().members(),
        })
    }

    /// Adds a voter or a learner. The new member may be started once this returns.
    ///
    /// # Errors
    /// etcd's: bad or known URLs, too many learners, too few started members, a voter that does not
    /// answer, timeouts.
    pub async fn member_add(&self, request: MemberAddRequest) -> Result<MemberAddResponse, Error> {
        let urls = parse_urls(&request.peer_ur_ls)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs());
        let token = &self.config().initial_cluster_token;
        let id = identity::member_id(&urls, token, Some(seconds));
        let member = Member {
            id: id.0,
            peer_ur_ls: urls.iter().map(|url| url.to_string()).collect(),
            is_learner: request.is_learner,
            ..Member::default()
        };
        let members = self.change(Op::Add(member.clone())).await?;
        Ok(MemberAddResponse {
            header: self.member_header(),
            member: Some(member),
            members,
        })
    }

    /// Removes a member permanently. Its id cannot be added again.
    ///
    /// # Errors
    /// etcd's: not found, too few started members, too few members that respond, timeouts.
    pub async fn member_remove(&self, member: MemberId) -> Result<MemberRemoveResponse, Error> {
        let members = self.change(Op::Remove(member.0)).await?;
        Ok(MemberRemoveResponse {
            header: self.member_header(),
            members,
        })
    }

    /// Replaces a member's peer URLs.
    ///
    /// # Errors
    /// etcd's: bad or known URLs, not found, timeouts.
    pub async fn member_update(
        &self,
        request: MemberUpdateRequest,
    ) -> Result<MemberUpdateResponse, Error> {
        let urls = parse_urls(&request.peer_ur_ls)?;
        let member = Member {
            id: request.id,
            peer_ur_ls: urls.iter().map(|url| url.to_string()).collect(),
            ..Member::default()
        };
        let members = self.change(Op::Update(member)).await?;
        Ok(MemberUpdateResponse {
            header: self.member_header(),
            members,
        })
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// etcd's: not found, not a learner, a learner that is not in sync with the leader, timeouts.
    pub async fn member_promote(&self, member: MemberId) -> Result<MemberPromoteResponse, Error> {
        let metrics = &self.inner.metrics;
        let members = self.change(Op::Promote(member.0)).await;
        let members = members.inspect_err(|error| {
            metrics.promotion_failed(error);
        })?;
        metrics.learners_promoted.add(1);
        Ok(MemberPromoteResponse {
            header: self.member_header(),
            members,
        })
    }

    /// Transfers leadership to that member.
    ///
    /// # Errors
    /// `NotLeader` on a follower, `BadLeaderTransferee` for a learner or an unknown id, `Timeout`.
    pub async fn move_leader(&self, target: MemberId) -> Result<MoveLeaderResponse, Error> {
        self.authorize_now(Access::Duty(Duty::Operate)).await?;
        let mut soft_state = self.inner.shared.watch_soft_state();
        if soft_state.borrow_and_update().role != Role::Leader {
            return Err(Error::NotLeader);
        }
        let voter = self
            .view()
            .member(target.0)
            .is_some_and(|member| !member.is_learner);
        if !voter {
            return Err(Error::BadLeaderTransferee);
        }
        if target != self.member_id() {
            let transfer = Input::TransferLeader(Some(target));
            let _ = self.inner.executor.send(WorkerEvent::from(transfer));
            let moved = soft_state.wait_for(|soft_state| soft_state.leader == target);
            let patience = Duration::from_millis(self.config().election_ms);
            let in_time = tokio::time::timeout(patience, moved).await;
            in_time
                .map_err(|_| Error::Timeout)?
                .map_err(|_| Error::Stopped)?;
        }
        // etcd sends no header with this response.
        Ok(MoveLeaderResponse { header: None })
    }

    /// The hash of the stored keys at a revision; 0 is the latest. Members that have applied the
    /// same entries return the same hash.
    ///
    /// # Errors
    /// Compacted and future revisions.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        self.authorize_now(Access::Duty(Duty::Monitor)).await?;
        let (view, inner) = (self.view(), Arc::clone(&self.inner));
        let hashing = self.inner.shared.jobs.spawn_blocking(move || {
            let began = Instant::now();
            let hash = view.hash_kv(revision);
            inner.metrics.hashes.observe(began.elapsed());
            hash
        });
        let hash = hashing
            .await
            .map_err(|error| Error::Internal(error.to_string()))?;
        let hash = self.inner.storage.fatal.of_read(hash)?;
        Ok(HashKvResponse {
            header: self.header(),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        })
    }

    /// The status of this member, from its local state.
    pub fn status(&self) -> StatusResponse {
        let (node, view) = (self.inner.shared.node(), self.view());
        let size = view.size();
        let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let quota = self.config().quota_bytes;
        StatusResponse {
            header: self.header(),
            version: version::ETCD.to_owned(),
            db_size: bytes(size.total_bytes),
            leader: node.soft_state.leader.0,
            raft_index: node.committed.0,
            raft_term: self.inner.shared.shown_term(),
            raft_applied_index: view.applied_index().0,
            errors: view.divergence().iter().map(ToString::to_string).collect(),
            db_size_in_use: bytes(size.in_use_bytes),
            is_learner: self.inner.shared.is_learner(),
            storage_version: self.storage_version().unwrap_or_default(),
            db_size_quota: if quota == u64::MAX { 0 } else { bytes(quota) },
            downgrade_info: Some(self.downgrade_info()),
        }
    }

    /// The cluster version that this member's engine holds. A release of it can start on the data.
    pub(crate) fn storage_version(&self) -> Option<String> {
        self.view().storage_version().ok().flatten()
    }

    /// A header without a revision, as etcd sends it in responses about members.
    fn member_header(&self) -> Option<ResponseHeader> {
        let mut header = self.header();
        if let Some(header) = &mut header {
            header.revision = 0;
        }
        header
    }

    /// A header with the current revision.
    pub(crate) fn header(&self) -> Option<ResponseHeader> {
        let revision = self.view().revision();
        let mut header = Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        });
        self.fill(&mut header);
        header
    }
}

fn parse_urls(texts: &[String]) -> Result<Vec<Url>, Error> {
    let urls: Result<Vec<Url>, _> = texts.iter().map(|text| Url::parse(text)).collect();
    match urls {
        Ok(urls) if !urls.is_empty() => Ok(urls),
        _ => Err(Error::MemberBadUrls),
    }
}
