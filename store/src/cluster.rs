//! Membership, status and leadership requests.

use std::time::{Duration, SystemTime};

use keelson_core::MemberId;
use keelson_core::node::{Input, Role};
use keelson_core::state::{Response, validate_member_change};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::{MemberChange, member_change::Op};
use prost::Message;

use crate::config::{Url, identity};
use crate::member::driver::Event;
use crate::{Error, Store, version};

/// etcd's default: one learner at a time.
const LEARNERS_MAX: usize = 1;

impl Store {
    /// The members, by id.
    ///
    /// # Errors
    /// Timeouts, when a linearizable list is asked for and there is no quorum.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        if linearizable {
            self.read_index().await?;
        }
        Ok(MemberListResponse {
            header: self.member_header(),
            members: self.view().members(),
        })
    }

    /// Adds a member or a learner; it may then be started.
    ///
    /// # Errors
    /// etcd's: bad or known URLs, too many learners, too few started members, timeouts.
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
        if !request.is_learner {
            self.require_quorum_after(1).await?;
        }
        let members = self.change(Op::Add(member.clone())).await?;
        Ok(MemberAddResponse {
            header: self.member_header(),
            member: Some(member),
            members,
        })
    }

    /// Removes a member, for ever.
    ///
    /// # Errors
    /// etcd's: not found, too few started members, timeouts.
    pub async fn member_remove(&self, member: MemberId) -> Result<MemberRemoveResponse, Error> {
        self.require_quorum_without(member).await?;
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
    /// etcd's: not found, no learner, timeouts.
    pub async fn member_promote(&self, member: MemberId) -> Result<MemberPromoteResponse, Error> {
        let members = self.change(Op::Promote(member.0)).await?;
        Ok(MemberPromoteResponse {
            header: self.member_header(),
            members,
        })
    }

    /// Hands leadership to that member.
    ///
    /// # Errors
    /// `NotLeader` here, `BadLeaderTransferee` for a learner or a stranger, `Timeout`.
    pub async fn move_leader(&self, target: MemberId) -> Result<MoveLeaderResponse, Error> {
        let mut standing = self.inner.shared.watch_standing();
        if standing.borrow_and_update().role != Role::Leader {
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
            let _ = self.inner.turns.send(Event::Input(transfer));
            let moved = standing.wait_for(|standing| standing.leader == target);
            let patience = Duration::from_millis(self.config().election_ms);
            let in_time = tokio::time::timeout(patience, moved).await;
            in_time
                .map_err(|_| Error::Timeout)?
                .map_err(|_| Error::Stopped)?;
        }
        // etcd sends no header with this one.
        Ok(MoveLeaderResponse { header: None })
    }

    /// The hash of what is stored at a revision; 0 is the latest. Equal on members that have applied
    /// the same.
    ///
    /// # Errors
    /// Compacted and future revisions.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        let view = self.view();
        let hashing = tokio::task::spawn_blocking(move || view.hash_kv(revision));
        let hash = hashing
            .await
            .map_err(|error| Error::Internal(error.to_string()))??;
        Ok(HashKvResponse {
            header: self.header(),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        })
    }

    /// This member's state, at once.
    pub fn status(&self) -> StatusResponse {
        let (node, view) = (self.inner.shared.node(), self.view());
        let size = view.size();
        let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let quota = self.config().quota_bytes;
        StatusResponse {
            header: self.header(),
            version: version::ETCD.to_owned(),
            db_size: bytes(size.total_bytes),
            leader: node.standing.leader.0,
            raft_index: node.committed.0,
            raft_term: node.standing.term.0,
            raft_applied_index: view.applied_index().0,
            errors: Vec::new(),
            db_size_in_use: bytes(size.in_use_bytes),
            is_learner: self.inner.shared.is_learner(),
            storage_version: version::CLUSTER.to_owned(),
            db_size_quota: if quota == u64::MAX { 0 } else { bytes(quota) },
            downgrade_info: None,
        }
    }

    /// A header without a revision, as etcd's answers about members have it.
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

    /// Checks a membership change against the latest membership and carries it out.
    async fn change(&self, op: Op) -> Result<Vec<Member>, Error> {
        self.read_index().await?;
        let view = self.view();
        let change = MemberChange { op: Some(op) };
        validate_member_change(
            &view.members(),
            &view.removed_members(),
            &change,
            LEARNERS_MAX,
        )?;
        match self.submit(change.encode_to_vec().into(), true).await?? {
            Response::Members(members) => Ok(members),
            _ => Ok(self.view().members()),
        }
    }

    /// etcd's strict check: with `added` more voters that are not started yet, the started ones must
    /// still be a quorum.
    async fn require_quorum_after(&self, added: usize) -> Result<(), Error> {
        self.require_quorum(added, |_| true).await
    }

    async fn require_quorum_without(&self, removed: MemberId) -> Result<(), Error> {
        self.require_quorum(0, move |member| member.id != removed.0)
            .await
    }

    async fn require_quorum(
        &self,
        added: usize,
        stays: impl Fn(&Member) -> bool,
    ) -> Result<(), Error> {
        if !self.config().strict_reconfig_check {
            return Ok(());
        }
        self.read_index().await?;
        let voters = self.view().members();
        let voters = voters
            .iter()
            .filter(|member| !member.is_learner && stays(member));
        let (mut count, mut started) = (added, 0);
        for member in voters {
            count += 1;
            started += usize::from(!member.name.is_empty());
        }
        // A cluster of one may always grow: that is how it becomes more.
        if 1 < count && started < count / 2 + 1 && !(added == 1 && count == 2) {
            return Err(Error::NotEnoughStartedMembers);
        }
        Ok(())
    }
}

fn parse_urls(texts: &[String]) -> Result<Vec<Url>, Error> {
    let urls: Result<Vec<Url>, _> = texts.iter().map(|text| Url::parse(text)).collect();
    match urls {
        Ok(urls) if !urls.is_empty() => Ok(urls),
        _ => Err(Error::MemberBadUrls),
    }
}
