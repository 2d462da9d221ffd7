//! A model of etcd's users, roles and permissions on a single server.
//!
//! A request is decided key by key (`rights`). The rules of changes are those of etcd's
//! `server/auth/store.go`, for what a client can send; passwords are not kept.

mod rights;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelson_proto::authpb::Permission;
use keelson_proto::authpb::permission::Type;
use keelson_proto::internal::auth_change::Op;

pub use rights::{Asked, Rights};

/// The user, and the role, with every permission.
const ROOT: &str = "root";
/// Keelson's roles beside it.
const BUILT_IN: [&str; 4] = ["monitor", "backup", "compactor", "operator"];
/// Those of them that permit compactions.
const COMPACTS: [&str; 2] = ["compactor", "operator"];

/// The permissions of a role, by `key` and `range_end`.
type Role = BTreeMap<(Bytes, Bytes), Type>;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The names of its roles.
    pub roles: BTreeSet<String>,
    /// The entry that created it or changed its password.
    pub since: u64,
}

/// Users, roles and permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Whether requests are checked.
    pub enabled: bool,
    /// The number of changes and one.
    pub revision: u64,
    /// By name.
    pub users: BTreeMap<String, User>,
    /// By name.
    pub roles: BTreeMap<String, Role>,
}

/// The origin of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// A member: nothing is checked.
    Member,
    /// A client without a user.
    Nobody,
    /// A user; the number is [`User::since`] of its token, or 0.
    User(&'a str, u64),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has no user.
    NoUser,
    /// Its token is from before its user was deleted, or got another password.
    BadToken,
    /// Its user may not make it.
    NoPermission,
}

/// A change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl Auth {
    /// Makes a change, which is in the entry with that number.
    ///
    /// # Errors
    /// The server's refusal. The change has no effect.
    pub fn change(&mut self, op: &Op, entry: u64) -> Result<(), Refused> {
        let mut next = self.clone();
        next.revision += 1;
        match op {
            Op::Enable(_) => {
                let root = next.users.get(ROOT).ok_or(Refused)?;
                next.enabled = self.enabled || root.roles.contains(ROOT);
                next.revision = self.revision;
                allowed(next.enabled)?;
            }
            Op::Disable(_) => {
                next.enabled = false;
                next.revision = self.revision + u64::from(self.enabled);
            }
            // The key of tokens is not modelled.
            Op::SetSecret(_) => next.revision = self.revision,
            Op::UserAdd(request) => {
                let user = User {
                    since: entry,
                    ..User::default()
                };
                let is_new = next.users.insert(request.name.clone(), user).is_none();
                allowed(is_new && !request.name.is_empty())?;
            }
            Op::UserDelete(request) => {
                let there = next.users.remove(&request.name).is_some();
                allowed(there && !(self.enabled && request.name == ROOT))?;
            }
            Op::UserChangePassword(request) => next.user(&request.name)?.since = entry,
            Op::UserGrantRole(request) => next.grant_role(&request.user, &request.role)?,
            Op::UserRevokeRole(request) => {
                let is_root = request.name == ROOT && request.role == ROOT;
                let had = next.user(&request.name)?.roles.remove(&request.role);
                allowed(had && !(self.enabled && is_root))?;
            }
            Op::RoleAdd(request) => {
                let role = Role::new();
                let is_new = next.roles.insert(request.name.clone(), role).is_none();
                allowed(is_new && !request.name.is_empty())?;
            }
            Op::RoleDelete(request) => {
                let there = next.roles.remove(&request.role).is_some();
                allowed(there && !(self.enabled && request.role == ROOT))?;
                for user in next.users.values_mut() {
                    user.roles.remove(&request.role);
                }
            }
            Op::RoleGrantPermission(request) => {
                let perm = request.perm.as_ref().ok_or(Refused)?;
                allowed(is_range(perm))?;
                let range = (perm.key.clone(), perm.range_end.clone());
                next.role(&request.name)?.insert(range, perm.perm_type());
            }
            Op::RoleRevokePermission(request) => {
                let range = (request.key.clone(), request.range_end.clone());
                let had = next.role(&request.role)?.remove(&range);
                allowed(had.is_some())?;
            }
        }
        *self = next;
        Ok(())
    }

    fn grant_role(&mut self, user: &str, role: &str) -> Result<(), Refused> {
        let is_known = self.roles.contains_key(role) || BUILT_IN.contains(&role) || role == ROOT;
        let is_new = self.user(user)?.roles.insert(role.to_owned());
        // etcd counts no change then.
        self.revision -= u64::from(!is_new);
        allowed(is_known)
    }

    fn user(&mut self, name: &str) -> Result<&mut User, Refused> {
        self.users.get_mut(name).ok_or(Refused)
    }

    fn role(&mut self, name: &str) -> Result<&mut Role, Refused> {
        self.roles.get_mut(name).ok_or(Refused)
    }

    /// Checks a request that names no lease with keys. `keys` has a key in each part into which the
    /// ranges of permissions and of the request divide the key space.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn check(&self, by: By<'_>, asked: &Asked<'_>, keys: &[Bytes]) -> Result<(), Denial> {
        self.check_with_lease(by, asked, keys, &[])
    }

    /// The same; the lease that the request names has these keys.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn check_with_lease(
        &self,
        by: By<'_>,
        asked: &Asked<'_>,
        keys: &[Bytes],
        attached: &[Bytes],
    ) -> Result<(), Denial> {
        let (name, since) = match by {
            By::Member => return Ok(()),
            _ if !self.enabled => return Ok(()),
            By::Nobody => return Err(Denial::NoUser),
            By::User(name, since) => (name, since),
        };
        let Some(user) = self.users.get(name) else {
            return Err(match since {
                0 => Denial::NoPermission,
                _ => Denial::BadToken,
            });
        };
        if since != 0 && since != user.since {
            return Err(Denial::BadToken);
        }
        let is_root = user.roles.contains(ROOT);
        let rights = Rights {
            attached,
            ..self.rights(user, keys)
        };
        match is_root || rights.permits(asked) {
            true => Ok(()),
            false => Err(Denial::NoPermission),
        }
    }

    fn rights<'a>(&self, user: &User, keys: &'a [Bytes]) -> Rights<'a> {
        let stored = user.roles.iter().filter_map(|role| self.roles.get(role));
        let permissions = stored.flatten().map(|(range, kind)| (*kind, range.clone()));
        let compacts = |role: &&str| user.roles.contains(*role) && !self.roles.contains_key(*role);
        Rights {
            keys,
            permissions: permissions.collect(),
            attached: &[],
            may_compact: COMPACTS.iter().any(compacts),
        }
    }
}

fn allowed(is: bool) -> Result<(), Refused> {
    if is { Ok(()) } else { Err(Refused) }
}

/// Whether a permission is of a range that can exist.
fn is_range(of: &Permission) -> bool {
    match &of.range_end[..] {
        [] => !of.key.is_empty(),
        [0] => true,
        end => of.key[..] < *end,
    }
}
