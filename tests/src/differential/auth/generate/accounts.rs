//! Calls about users, roles and permissions, and logins.

use bytes::Bytes;
use keelson_proto::authpb::{Permission, UserAddOptions};
use keelson_proto::etcdserverpb::*;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::accepted::is_empty;
use super::{AuthGenerator, Call, Caller, SESSIONS, USERS};

/// Roles; the last one is never added.
pub(super) const ROLES: [&str; 6] = ["root", "r1", "r2", "r3", "alice", "nothing"];

/// The password of most users, most of the time.
const PASSWORD: &str = "secret";

impl AuthGenerator {
    /// Users with their roles, auth, and one login each.
    pub(super) fn plan_accounts(&mut self) {
        let mut calls = Vec::new();
        for name in &USERS[..5] {
            let (name, no_password) = ((*name).to_owned(), *name == "dave");
            calls.push(Call::UserAdd(AuthUserAddRequest {
                name,
                password: PASSWORD.to_owned(),
                options: Some(UserAddOptions { no_password }),
                ..AuthUserAddRequest::default()
            }));
        }
        for name in &ROLES[..4] {
            let name = (*name).to_owned();
            calls.push(Call::RoleAdd(AuthRoleAddRequest { name }));
        }
        for role in &ROLES[1..4] {
            for _ in 0..4 {
                calls.push(self.grant_permission(role));
            }
        }
        for (user, role) in USERS.into_iter().zip(&ROLES[..4]) {
            let (user, role) = (user.to_owned(), (*role).to_owned());
            calls.push(Call::GrantRole(AuthUserGrantRoleRequest { user, role }));
        }
        calls.push(Call::Enable);
        for (session, name) in USERS[..4].iter().enumerate() {
            let (name, password) = ((*name).to_owned(), PASSWORD.to_owned());
            let request = AuthenticateRequest { name, password };
            calls.push(Call::Login(session, request));
        }
        let calls = calls.into_iter().map(|call| (Caller::Nobody, call));
        self.planned.extend(calls);
    }

    fn user(&mut self) -> &'static str {
        match self.kv.rng.random_range(0..60) {
            0 => "",
            _ => USERS.choose(&mut self.kv.rng).expect("there are users"),
        }
    }

    fn role(&mut self) -> &'static str {
        match self.kv.rng.random_range(0..60) {
            0 => "",
            _ => ROLES.choose(&mut self.kv.rng).expect("there are roles"),
        }
    }

    fn password(&mut self) -> String {
        match self.kv.rng.random_range(0..24) {
            0 => String::new(),
            1 => "other".to_owned(),
            // The most that Go's bcrypt takes. etcd 3.4 takes longer ones.
            2 => "x".repeat(72),
            _ => PASSWORD.to_owned(),
        }
    }

    pub(super) fn login_of(&mut self, name: &str) -> AuthenticateRequest {
        AuthenticateRequest {
            name: name.to_owned(),
            password: self.password(),
        }
    }

    /// A login of a new session, or in place of another.
    pub(super) fn login(&mut self, caller: Caller) -> (Caller, Call) {
        let session = self.kv.rng.random_range(0..SESSIONS);
        let (caller, name) = match caller {
            // In etcd a token that is not valid refuses the login: this one fails in any case.
            Caller::Token(_) => (caller, USERS[6]),
            // One session is root's, if it can be.
            _ if session == 0 => (Caller::Nobody, USERS[0]),
            _ => (Caller::Nobody, self.user()),
        };
        (caller, Call::Login(session, self.login_of(name)))
    }

    /// A change of users, roles or permissions.
    pub(super) fn change(&mut self) -> Call {
        let (name, role) = (self.user().to_owned(), self.role().to_owned());
        match self.kv.rng.random_range(0..100) {
            0..14 => {
                let no_password = self.kv.often(20);
                let name = if name == USERS[6] {
                    USERS[5].to_owned()
                } else {
                    name
                };
                Call::UserAdd(AuthUserAddRequest {
                    password: self.password(),
                    options: self.kv.often(50).then_some(UserAddOptions { no_password }),
                    name,
                    ..AuthUserAddRequest::default()
                })
            }
            14..18 => Call::UserDelete(AuthUserDeleteRequest { name }),
            18..24 => Call::ChangePassword(AuthUserChangePasswordRequest {
                password: self.password(),
                name,
                ..AuthUserChangePasswordRequest::default()
            }),
            24..42 => Call::GrantRole(AuthUserGrantRoleRequest { user: name, role }),
            42..50 => Call::RevokeRole(AuthUserRevokeRoleRequest { name, role }),
            50..58 => {
                let name = if role == ROLES[5] {
                    ROLES[4].to_owned()
                } else {
                    role
                };
                Call::RoleAdd(AuthRoleAddRequest { name })
            }
            58..61 => Call::RoleDelete(AuthRoleDeleteRequest { role }),
            61..84 => self.grant_permission(&role),
            _ => {
                let key = self.kv.key();
                let range_end = self.permission_end(&key);
                Call::RevokePermission(AuthRoleRevokePermissionRequest {
                    role,
                    key,
                    range_end,
                })
            }
        }
    }

    fn grant_permission(&mut self, role: &str) -> Call {
        let key = self.kv.key();
        let permission = Permission {
            perm_type: self.kv.rng.random_range(0..3),
            range_end: self.permission_end(&key),
            key,
        };
        // etcd takes an empty range, and shows it from then on.
        let role = if is_empty(&permission) {
            ROLES[5]
        } else {
            role
        };
        Call::GrantPermission(AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            // Without one, etcd 3.4 ends with a panic.
            perm: Some(permission),
        })
    }

    /// The end of the range of all permissions that begin with that key.
    fn permission_end(&mut self, key: &Bytes) -> Bytes {
        if let Some(end) = self.ends.get(key) {
            return end.clone();
        }
        let end = self.kv.end(key);
        self.ends.insert(key.clone(), end.clone());
        end
    }

    /// Root, as it has to be for auth to be enabled.
    pub(super) fn plan_root(&mut self) {
        let root = || USERS[0].to_owned();
        let calls = [
            Call::UserAdd(AuthUserAddRequest {
                name: root(),
                password: PASSWORD.to_owned(),
                ..AuthUserAddRequest::default()
            }),
            Call::RoleAdd(AuthRoleAddRequest { name: root() }),
            Call::GrantRole(AuthUserGrantRoleRequest {
                user: root(),
                role: root(),
            }),
            Call::Enable,
        ];
        if self.planned.is_empty() {
            self.planned
                .extend(calls.map(|call| (Caller::Nobody, call)));
        }
    }

    /// A read of users and roles.
    pub(super) fn account(&mut self) -> Call {
        match self.kv.rng.random_range(0..10) {
            0 => Call::UserList,
            1 => Call::RoleList,
            2 => Call::AuthStatus,
            3..7 => Call::UserGet(AuthUserGetRequest {
                name: self.user().to_owned(),
            }),
            _ => Call::RoleGet(AuthRoleGetRequest {
                role: self.role().to_owned(),
            }),
        }
    }
}
