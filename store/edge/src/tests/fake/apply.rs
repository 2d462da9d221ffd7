//! The fake member's log, of which each entry is committed at once, and its status.

use bytes::Bytes;
use keelson_core::state;
use keelson_core::{Committed, Entry, EntryKind, Index, ProposalId, Term, proposal};
use keelson_proto::etcdserverpb::{
    DowngradeInfo, DowngradeRequest, DowngradeResponse, Member, ResponseHeader, StatusResponse,
};
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

use super::header::full;
use super::{Access, Backend, Fake, MEMBER, REQUEST_BYTES_MAX, TERM};
use crate::Error;

impl Fake {
    pub(super) fn propose(&self, op: Op) -> Result<state::Response, Error> {
        self.authorize(Access::Command(&op))?;
        let op = match self.auth_enabled() {
            true => self.1.signed(op),
            false => op,
        };
        Ok(self.apply(op)??)
    }

    /// Checks the log's limit, and then applies the command to the state machine.
    pub(crate) fn apply(&self, op: Op) -> Result<Result<state::Response, state::Error>, Error> {
        let command = Command { op: Some(op) }.encode_to_vec();
        let takes_large = self.0.condition.lock().takes_large;
        if !takes_large && REQUEST_BYTES_MAX < command.len() {
            return Err(Error::RequestTooLarge);
        }
        let mut state = self.0.state.lock();
        let entry = Entry {
            index: Index(state.applied().index + 1),
            term: Term(TERM),
            kind: EntryKind::Command,
            data: proposal::encode(ProposalId::default(), &command),
            context: Bytes::new(),
        };
        let committed = Committed { entry, conf: None };
        let applied = state.apply(&committed, true).expect("a map does not fail");
        for event in &applied.events {
            self.0.hub.publish(event);
        }
        while self.0.watches.fan_out().expect("a map does not fail") {}
        Ok(applied.response)
    }

    pub(super) fn own_status(&self) -> StatusResponse {
        let header = ResponseHeader {
            revision: self.0.view.revision(),
            ..ResponseHeader::default()
        };
        StatusResponse {
            header: full(Some(header)),
            version: self.versions().server,
            db_size: 20480,
            db_size_in_use: 16384,
            leader: self.leader().0,
            raft_index: 11,
            raft_applied_index: 11,
            raft_term: TERM,
            is_learner: self.is_learner(),
            downgrade_info: self.0.view.downgrade().map(|target_version| DowngradeInfo {
                enabled: true,
                target_version,
            }),
            ..StatusResponse::default()
        }
    }

    pub(super) fn own_members(&self) -> Vec<Member> {
        if let Some(members) = self.condition().members.clone() {
            return members;
        }
        vec![Member {
            id: MEMBER,
            name: "m1".to_owned(),
            peer_ur_ls: vec!["http://127.0.0.1:2380".to_owned()],
            client_ur_ls: vec![format!("http://{}", self.0.address)],
            is_learner: self.is_learner(),
        }]
    }
}

pub(super) fn own_downgrade(request: DowngradeRequest) -> Result<DowngradeResponse, Error> {
    match request.version.as_str() {
        "" => Err(Error::WrongDowngradeFormat),
        version => Ok(DowngradeResponse {
            header: full(None),
            version: version.to_owned(),
        }),
    }
}
