//! Users, roles and permissions of the v3 API (etcd's `server/auth`).
//!
//! One immutable value, shared by all readers and replaced at each change. The rights of a user are
//! computed from its roles at the change, so that the check of a request looks up one user and
//! compares ranges. `Access` derives the check from the request.

mod access;
mod apply;
mod caller;
mod ranges;
mod rights;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keelson_proto::authpb;
use keelson_proto::internal::{AuthMeta, AuthUser};
use prost::Message;

pub use access::Access;
pub use caller::Caller;
pub use rights::{Duty, Rights};

use super::ReadView;
use super::error::StateError;
use super::registry::table;
use crate::engine::{Engine, Table};

/// The user that must exist before auth is enabled, and the role with every permission.
pub const ROOT: &str = "root";

/// The command version from which on members understand commands about auth, and of callers.
pub const AUTH_COMMANDS: u32 = 3;

/// The key of the row with everything but users and roles.
const META: &[u8] = b"meta";
/// The first byte of the key of a user's row; the name follows.
const USER: u8 = b'u';
/// The first byte of the key of a role's row; the name follows.
const ROLE: u8 = b'r';

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Its bcrypt hash; `None` for a user that cannot log in with a password.
    pub password: Option<Bytes>,
    /// Its roles, sorted.
    pub roles: Vec<String>,
    /// The index of the entry that created it or changed its password. A token names it: later
    /// changes of rights leave the token valid.
    pub since: u64,
    /// The revision of auth after that entry. A JWT token names a revision.
    pub since_revision: u64,
    /// What its roles permit.
    pub rights: Rights,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthRole {
    /// Its permissions, sorted by key.
    pub permissions: Vec<authpb::Permission>,
}

/// Users, roles and permissions at one index.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Whether requests are checked.
    pub enabled: bool,
    /// The number of changes and one, as in etcd; 0 before any.
    pub revision: u64,
    /// The key with which the members sign tokens; empty until auth is enabled first.
    pub secret: Bytes,
    users: BTreeMap<String, Arc<User>>,
    roles: BTreeMap<String, Arc<AuthRole>>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            enabled: false,
            revision: 1,
            secret: Bytes::new(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl Auth {
    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&Arc<AuthRole>> {
        self.roles.get(name)
    }

    /// The names of all users, sorted.
    pub fn user_names(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    /// The names of all roles, sorted.
    pub fn role_names(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// Whether auth was ever changed.
    pub(super) fn was_used(&self) -> bool {
        *self != Auth::default()
    }

    /// Loads users and roles from the engine.
    pub(super) fn load(engine: &dyn Engine) -> Result<Auth, StateError> {
        let mut auth = Auth::default();
        for (key, row) in table(engine, Table::Auth)? {
            if key == META {
                let meta = AuthMeta::decode(row).map_err(|error| damaged(&key, error))?;
                auth.enabled = meta.enabled;
                auth.revision = meta.revision;
                auth.secret = meta.secret;
                continue;
            }
            let (kind, name) = key.split_first().ok_or_else(|| damaged(&key, "no name"))?;
            let name = std::str::from_utf8(name).map_err(|error| damaged(&key, error))?;
            match *kind {
                USER => {
                    let row = AuthUser::decode(row).map_err(|error| damaged(&key, error))?;
                    auth.users
                        .insert(name.to_owned(), Arc::new(User::from(row)));
                }
                ROLE => {
                    let row = authpb::Role::decode(row).map_err(|error| damaged(&key, error))?;
                    let permissions = row.key_permission;
                    auth.roles
                        .insert(name.to_owned(), Arc::new(AuthRole { permissions }));
                }
                _ => return Err(damaged(&key, "neither a user nor a role")),
            }
        }
        auth.compute_rights(|_| true);
        Ok(auth)
    }

    /// Computes the rights of those users again.
    fn compute_rights(&mut self, of: impl Fn(&User) -> bool) {
        for user in self.users.values_mut().filter(|user| of(user)) {
            let rights = Rights::of(&user.roles, &self.roles);
            Arc::make_mut(user).rights = rights;
        }
    }

    fn meta_row(&self) -> Bytes {
        let meta = AuthMeta {
            enabled: self.enabled,
            revision: self.revision,
            secret: self.secret.clone(),
        };
        Bytes::from(meta.encode_to_vec())
    }
}

impl From<AuthUser> for User {
    fn from(row: AuthUser) -> User {
        let AuthUser {
            user,
            since,
            since_revision,
        } = row;
        let user = user.unwrap_or_default();
        let cannot_log_in = user.options.is_some_and(|options| options.no_password);
        User {
            password: (!cannot_log_in).then_some(user.password),
            roles: user.roles,
            since,
            since_revision,
            rights: Rights::default(),
        }
    }
}

impl User {
    fn row(&self, name: &str) -> Bytes {
        let options = authpb::UserAddOptions {
            no_password: self.password.is_none(),
        };
        let user = authpb::User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: self.password.clone().unwrap_or_default(),
            roles: self.roles.clone(),
            options: Some(options),
        };
        let row = AuthUser {
            user: Some(user),
            since: self.since,
            since_revision: self.since_revision,
        };
        Bytes::from(row.encode_to_vec())
    }
}

impl AuthRole {
    fn row(&self, name: &str) -> Bytes {
        let role = authpb::Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: self.permissions.clone(),
        };
        Bytes::from(role.encode_to_vec())
    }
}

/// What a row of the table `Auth` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRow<'a> {
    /// Whether auth is enabled: an `AuthMeta`.
    Meta,
    /// The user of that name: an `AuthUser`.
    User(&'a [u8]),
    /// The role of that name: etcd's `Role`.
    Role(&'a [u8]),
}

impl AuthRow<'_> {
    /// The row by its key; `None` if no such key is ever written.
    pub fn of(key: &[u8]) -> Option<AuthRow<'_>> {
        match key.split_first()? {
            _ if key == META => Some(AuthRow::Meta),
            (&USER, name) => Some(AuthRow::User(name)),
            (&ROLE, name) => Some(AuthRow::Role(name)),
            _ => None,
        }
    }

    /// Its key.
    pub fn key(self) -> Bytes {
        match self {
            AuthRow::Meta => Bytes::from_static(META),
            AuthRow::User(name) => Bytes::from([&[USER], name].concat()),
            AuthRow::Role(name) => Bytes::from([&[ROLE], name].concat()),
        }
    }
}

/// The key of a user's or role's row.
fn row_key(kind: u8, name: &str) -> Bytes {
    Bytes::from([&[kind], name.as_bytes()].concat())
}

fn damaged(key: &[u8], why: impl std::fmt::Display) -> StateError {
    StateError::Damaged(format!("auth {}: {why}", key.escape_ascii()))
}

impl ReadView {
    /// Users, roles and permissions.
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.shared.auth.read())
    }

    /// A number that moves with every change of users, roles and permissions, and with a snapshot.
    /// A reader of an event also reads the number of every change before it.
    pub fn auth_changed(&self) -> u64 {
        self.shared.auth_changed.load(Ordering::SeqCst)
    }

    /// Whether requests are checked.
    pub fn auth_enabled(&self) -> bool {
        self.shared.auth.read().enabled
    }
}
