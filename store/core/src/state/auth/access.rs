//! Whether a caller may make a request. The check is derived from the request's type: a new kind of
//! command does not compile without one.

use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op as AuthOp;
use keelson_proto::internal::command::Op;

use parking_lot::RwLock;

use super::{Auth, Caller, Duty, Rights};
use crate::state::leases::Leases;
use crate::state::{Error, KeyRange, ReadView};

/// A request, as far as rights are concerned.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// A command for the log.
    Command(&'a Op),
    /// A read of a range.
    Range(&'a RangeRequest),
    /// A transaction that only reads.
    Txn(&'a TxnRequest),
    /// A watch of this range.
    Watch(KeyRange<'a>),
    /// The times of a lease, with its keys if so requested.
    LeaseTimes(&'a LeaseTimeToLiveRequest),
    /// The list of leases.
    Leases,
    /// What every user may do: renewals, members, status, alarms.
    AnyUser,
    /// A duty beside `root`'s.
    Duty(Duty),
    /// What only root may do, and is no command of the state: changes of members.
    Root,
    /// The roles of a user.
    UserGet(&'a str),
    /// The permissions of a role.
    RoleGet(&'a str),
}

impl<'a> Access<'a> {
    /// A watch that is requested. An empty key is the first one, as in etcd.
    pub fn watch(request: &'a WatchCreateRequest) -> Access<'a> {
        let key: &[u8] = match &request.key[..] {
            [] => b"\0",
            key => key,
        };
        Access::Watch(KeyRange::new(key, &request.range_end))
    }

    /// Checks the request.
    fn check(self, auth: &Auth, caller: &Caller, leases: &RwLock<Leases>) -> Result<(), Error> {
        if !auth.enabled || *caller == Caller::Member {
            return Ok(());
        }
        let Caller::User { name, since } = caller else {
            return Err(Error::UserEmpty);
        };
        let Some(user) = auth.user(name) else {
            // A deleted user's tokens end, as in etcd.
            return Err(match since {
                0 => Error::PermissionDenied,
                _ => Error::InvalidAuthToken,
            });
        };
        if *since != 0 && *since != user.since {
            return Err(Error::InvalidAuthToken);
        }
        let check = Check {
            name,
            roles: &user.roles,
            rights: &user.rights,
            leases,
        };
        match user.rights.is_root() || check.permits(self) {
            true => Ok(()),
            false => Err(Error::PermissionDenied),
        }
    }
}

/// The rights of a user that is not root.
struct Check<'a> {
    name: &'a str,
    roles: &'a [String],
    rights: &'a Rights,
    leases: &'a RwLock<Leases>,
}

impl Check<'_> {
    fn permits(&self, access: Access<'_>) -> bool {
        match access {
            Access::Command(op) => self.command(op),
            Access::Range(range) => self.range(range),
            Access::Txn(txn) => self.txn(txn),
            Access::Watch(range) => self.rights.may_read(range),
            Access::LeaseTimes(request) => !request.keys || self.lease(request.id, false),
            Access::Leases => self.all_leases(),
            Access::AnyUser => true,
            Access::Duty(duty) => self.rights.has(duty),
            Access::Root => false,
            Access::UserGet(name) => name == self.name,
            Access::RoleGet(role) => self.roles.iter().any(|own| own == role),
        }
    }

    /// There is no wildcard arm: a new kind of command must state its check here.
    fn command(&self, op: &Op) -> bool {
        match op {
            Op::Put(put) => self.put(put),
            Op::DeleteRange(delete) => self.delete(delete),
            Op::Txn(txn) => self.txn(txn),
            Op::Compaction(_) => self.rights.has(Duty::Compact),
            Op::Alarm(request) => match request.action() {
                AlarmAction::Get => true,
                AlarmAction::Activate | AlarmAction::Deactivate => self.rights.has(Duty::Operate),
            },
            Op::LeaseGrant(_) => true,
            Op::LeaseRevoke(request) => self.lease(request.id, true),
            Op::Auth(change) => match change.op {
                Some(AuthOp::Enable(_) | AuthOp::SetSecret(_)) | None => false,
                Some(AuthOp::Disable(_)) => false,
                Some(AuthOp::UserAdd(_) | AuthOp::UserDelete(_)) => false,
                Some(AuthOp::UserChangePassword(_)) => false,
                Some(AuthOp::UserGrantRole(_) | AuthOp::UserRevokeRole(_)) => false,
                Some(AuthOp::RoleAdd(_) | AuthOp::RoleDelete(_)) => false,
                Some(AuthOp::RoleGrantPermission(_) | AuthOp::RoleRevokePermission(_)) => false,
            },
            // The members' own. The v2 API has its own users.
            Op::MemberAttributes(_) | Op::ClusterVersion(_) => false,
            // As in etcd: root alone.
            Op::Downgrade(_) => false,
            Op::Tree(_) | Op::TreeExpire(_) => false,
            Op::LeaseExpire(_) | Op::LeaseCheckpoint(_) | Op::Replicate(_) => false,
            Op::HashCheck(_) => false,
            // It is taken apart before the check.
            Op::AsUser(_) => false,
        }
    }

    fn range(&self, range: &RangeRequest) -> bool {
        let keys = KeyRange::new(&range.key, &range.range_end);
        self.rights.may_read(keys)
    }

    fn put(&self, put: &PutRequest) -> bool {
        let key = KeyRange::One(&put.key);
        let may_see = !put.prev_kv || self.rights.may_read(key);
        // Its expiry deletes all of its keys: to attach one is to decide about the others.
        let may_attach = put.lease == 0 || self.lease(put.lease, true);
        self.rights.may_write(key) && may_see && may_attach
    }

    fn delete(&self, delete: &DeleteRangeRequest) -> bool {
        let keys = KeyRange::new(&delete.key, &delete.range_end);
        let may_see = !delete.prev_kv || self.rights.may_read(keys);
        self.rights.may_write(keys) && may_see
    }

    /// Both branches and all nested transactions (CVE-2026-33343), with their comparisons.
    fn txn(&self, txn: &TxnRequest) -> bool {
        let may_compare = txn.compare.iter().all(|compare| {
            let keys = KeyRange::new(&compare.key, &compare.range_end);
            self.rights.may_read(keys)
        });
        let mut ops = txn.success.iter().chain(&txn.failure);
        may_compare
            && ops.all(|op| match &op.request {
                Some(Request::RequestRange(range)) => self.range(range),
                Some(Request::RequestPut(put)) => self.put(put),
                Some(Request::RequestDeleteRange(delete)) => self.delete(delete),
                Some(Request::RequestTxn(nested)) => self.txn(nested),
                None => true,
            })
    }

    /// Whether all keys of a lease may be written, or read.
    fn lease(&self, id: i64, write: bool) -> bool {
        let leases = self.leases.read();
        self.rights
            .may_all(write, |from| leases.next_key_of(id, from))
    }

    /// Whether the keys of all leases may be read, as in etcd.
    fn all_leases(&self) -> bool {
        let leases = self.leases.read();
        self.rights
            .may_all(false, |from| leases.next_attached(from))
    }
}

impl ReadView {
    /// Checks a request against the rights at this moment.
    ///
    /// # Errors
    /// [`Error::UserEmpty`] without a user, [`Error::PermissionDenied`], and
    /// [`Error::InvalidAuthToken`] for a token from before the user's password was changed, or the
    /// user was deleted.
    pub fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<(), Error> {
        if *caller == Caller::Member || !self.auth_enabled() {
            return Ok(());
        }
        let auth = self.auth();
        access.check(&auth, caller, &self.shared.leases)
    }
}
