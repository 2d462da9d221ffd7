//! The origin of a request, and how the log names it.

use keelson_proto::internal::command::Op;
use keelson_proto::internal::{AsUser, Command};

use super::Auth;
use crate::state::Error;

/// The origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The member itself, or the program that embeds it: not checked.
    Member,
    /// A client without a token and without a certificate that names a user.
    Anonymous,
    /// A user.
    User {
        /// Its name, not empty.
        name: String,
        /// [`User::since`](super::User::since) of the token; 0 from a certificate.
        since: u64,
    },
}

impl Caller {
    /// The caller's request as a command for the log, with the caller if there is one.
    pub fn signed(&self, op: Op) -> Op {
        let (user, since) = match self {
            Caller::Member if is_members_own(&op) => return op,
            Caller::Anonymous => return op,
            Caller::Member => (String::new(), 0),
            Caller::User { name, since } => (name.clone(), *since),
        };
        let command = Some(Box::new(Command { op: Some(op) }));
        Op::AsUser(Box::new(AsUser {
            user,
            since,
            command,
        }))
    }

    /// The origin of a command in the log, and the command itself. A client's request without a
    /// user may come from a member that has not applied yet that auth is enabled.
    pub(in crate::state) fn of(op: Op) -> (Caller, Option<Op>) {
        match op {
            Op::AsUser(of) => {
                let AsUser {
                    user: name,
                    since,
                    command,
                } = *of;
                let caller = match name.is_empty() {
                    true => Caller::Member,
                    false => Caller::User { name, since },
                };
                (caller, command.and_then(|command| command.op))
            }
            op if is_members_own(&op) => (Caller::Member, Some(op)),
            op => (Caller::Anonymous, Some(op)),
        }
    }
}

impl Auth {
    /// The user of a token that names a revision of auth: that of a login or later. As a caller it
    /// has the entry since which the user exists, or has its password.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without such a user, [`Error::AuthOldRevision`].
    pub fn caller_of(&self, name: String, revision: u64) -> Result<Caller, Error> {
        let user = self.user(&name).ok_or(Error::PermissionDenied)?;
        if revision < user.since_revision {
            return Err(Error::AuthOldRevision);
        }
        let since = user.since;
        Ok(Caller::User { name, since })
    }
}

/// Whether only members propose such a command by themselves. The v2 API has its own users.
fn is_members_own(op: &Op) -> bool {
    match op {
        Op::MemberAttributes(_) | Op::ClusterVersion(_) => true,
        Op::Tree(_) | Op::TreeExpire(_) => true,
        Op::LeaseExpire(_) | Op::LeaseCheckpoint(_) | Op::Replicate(_) => true,
        Op::HashCheck(_) => true,
        Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Compaction(_) => false,
        Op::Alarm(_) | Op::LeaseGrant(_) | Op::LeaseRevoke(_) | Op::Downgrade(_) => false,
        Op::Auth(_) | Op::AsUser(_) => false,
    }
}
