//! Application of the commands that change users, roles and permissions. The rules and the order of
//! the checks are etcd's (`server/auth/store.go`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keelson_proto::authpb::Permission;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op;
use keelson_proto::internal::{AuthChange, AuthEnable, AuthSecret};

use super::{Auth, AuthRole, META, ROLE, ROOT, USER, User, rights, row_key};
use crate::Index;
use crate::engine::{Change, Table};
use crate::state::range::header;
use crate::state::{Error, Response, StateMachine};

/// The longest name of a user or role, in bytes: it is part of a row's key in the engine.
const NAME_BYTES_MAX: usize = 256;

/// A changed row; `None` if it is deleted.
type ChangedRow = (Bytes, Option<Bytes>);

/// A change, as rows.
#[derive(Default)]
struct Changed {
    rows: Vec<ChangedRow>,
    /// The revision of auth advances.
    advances: bool,
}

impl Changed {
    fn rows(rows: Vec<ChangedRow>) -> Changed {
        Changed {
            rows,
            advances: true,
        }
    }

    fn user(name: &str, user: &User) -> ChangedRow {
        (row_key(USER, name), Some(user.row(name)))
    }

    fn role(name: &str, role: &AuthRole) -> ChangedRow {
        (row_key(ROLE, name), Some(role.row(name)))
    }
}

impl StateMachine {
    pub(in crate::state) fn apply_auth(
        &mut self,
        change: AuthChange,
        index: Index,
    ) -> Result<Response, Error> {
        let mut auth = Auth::clone(&self.shared.auth.read());
        // A client cannot propose an empty change; a newer kind is not understood.
        let op = change.op.ok_or(Error::UnknownCommand)?;
        let changed = auth.change(op, index)?;
        if changed.advances {
            auth.revision += 1;
        }
        for (key, row) in changed.rows {
            let change = row.map_or(Change::Delete, Change::Put);
            self.change(Table::Auth, key, change);
        }
        let meta = Change::Put(auth.meta_row());
        let key = Bytes::from_static(META);
        self.change(Table::Auth, key, meta);
        let enabled = auth.enabled;
        *self.shared.auth.write() = Arc::new(auth);
        // Without auth no right is lost: users are added before it is enabled.
        if enabled {
            self.shared.auth_changed.store(index.0, Ordering::SeqCst);
        }
        let header = header(self.shared.revision());
        Ok(Response::Auth(header.unwrap_or_default()))
    }
}

impl Auth {
    fn change(&mut self, op: Op, index: Index) -> Result<Changed, Error> {
        match op {
            Op::Enable(request) => self.enable(request),
            Op::Disable(_) => Ok(self.disable()),
            Op::UserAdd(request) => self.add_user(&request, index),
            Op::UserDelete(request) => self.delete_user(&request),
            Op::UserChangePassword(request) => self.change_password(&request, index),
            Op::UserGrantRole(request) => self.grant_role(request),
            Op::UserRevokeRole(request) => self.revoke_role(&request),
            Op::RoleAdd(request) => self.add_role(&request),
            Op::RoleDelete(request) => self.delete_role(&request),
            Op::RoleGrantPermission(request) => self.grant_permission(request),
            Op::RoleRevokePermission(request) => self.revoke_permission(&request),
            Op::SetSecret(request) => Ok(self.set_secret(request)),
        }
    }

    fn enable(&mut self, request: AuthEnable) -> Result<Changed, Error> {
        if self.enabled {
            return Ok(Changed::default());
        }
        let root = self.user(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.rights.is_root() {
            return Err(Error::RootRoleNotExist);
        }
        self.enabled = true;
        // Tokens of an earlier time end.
        self.secret = request.secret;
        Ok(Changed::default())
    }

    /// A restored cluster has no key: a snapshot is without it. Auth may have been disabled since
    /// the request, and stays so.
    fn set_secret(&mut self, request: AuthSecret) -> Changed {
        if self.enabled && self.secret.is_empty() {
            self.secret = request.secret;
        }
        Changed::default()
    }

    fn disable(&mut self) -> Changed {
        Changed {
            rows: Vec::new(),
            advances: std::mem::take(&mut self.enabled),
        }
    }

    fn add_user(&mut self, request: &AuthUserAddRequest, index: Index) -> Result<Changed, Error> {
        let name = named(&request.name, Error::UserEmpty)?;
        if self.users.contains_key(name) {
            return Err(Error::UserAlreadyExist);
        }
        let options = request.options.unwrap_or_default();
        let password = match options.no_password {
            true => None,
            false => Some(Bytes::copy_from_slice(request.hashed_password.as_bytes())),
        };
        let user = User {
            password,
            roles: Vec::new(),
            since: index.0,
            since_revision: self.revision + 1,
            rights: Default::default(),
        };
        let changed = Changed::user(name, &user);
        self.users.insert(name.to_owned(), Arc::new(user));
        Ok(Changed::rows(vec![changed]))
    }

    fn delete_user(&mut self, request: &AuthUserDeleteRequest) -> Result<Changed, Error> {
        if self.enabled && request.name == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        let removed = self.users.remove(&request.name);
        removed.ok_or(Error::UserNotFound)?;
        Ok(Changed::rows(vec![(row_key(USER, &request.name), None)]))
    }

    fn change_password(
        &mut self,
        request: &AuthUserChangePasswordRequest,
        index: Index,
    ) -> Result<Changed, Error> {
        let revision = self.revision + 1;
        self.change_user(&request.name, |user| {
            // A user without a password keeps none, as in etcd.
            if user.password.is_some() {
                user.password = Some(Bytes::copy_from_slice(request.hashed_password.as_bytes()));
            }
            user.since = index.0;
            user.since_revision = revision;
            Ok(())
        })
    }

    fn grant_role(&mut self, request: AuthUserGrantRoleRequest) -> Result<Changed, Error> {
        self.user(&request.user).ok_or(Error::UserNotFound)?;
        let role = request.role;
        let exists = role == ROOT || self.roles.contains_key(&role) || rights::is_built_in(&role);
        if !exists {
            return Err(Error::RoleNotFound);
        }
        let mut is_new = false;
        let mut changed = self.change_user(&request.user, |user| {
            if let Err(at) = user.roles.binary_search(&role) {
                user.roles.insert(at, role);
                is_new = true;
            }
            Ok(())
        })?;
        changed.advances = is_new;
        Ok(changed)
    }

    fn revoke_role(&mut self, request: &AuthUserRevokeRoleRequest) -> Result<Changed, Error> {
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.change_user(&request.name, |user| {
            let at = user.roles.binary_search(&request.role);
            user.roles.remove(at.map_err(|_| Error::RoleNotGranted)?);
            Ok(())
        })
    }

    fn add_role(&mut self, request: &AuthRoleAddRequest) -> Result<Changed, Error> {
        let name = named(&request.name, Error::RoleEmpty)?;
        if self.roles.contains_key(name) {
            return Err(Error::RoleAlreadyExist);
        }
        let role = AuthRole::default();
        let changed = Changed::role(name, &role);
        self.roles.insert(name.to_owned(), Arc::new(role));
        self.rights_of(name);
        Ok(Changed::rows(vec![changed]))
    }

    fn delete_role(&mut self, request: &AuthRoleDeleteRequest) -> Result<Changed, Error> {
        let name = &request.role;
        if self.enabled && name == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.roles.remove(name).ok_or(Error::RoleNotFound)?;
        let mut rows = vec![(row_key(ROLE, name), None)];
        for (of, user) in &mut self.users {
            if let Ok(at) = user.roles.binary_search(name) {
                let user = Arc::make_mut(user);
                user.roles.remove(at);
                user.rights = rights::Rights::of(&user.roles, &self.roles);
                rows.push(Changed::user(of, user));
            }
        }
        Ok(Changed::rows(rows))
    }

    fn grant_permission(
        &mut self,
        request: AuthRoleGrantPermissionRequest,
    ) -> Result<Changed, Error> {
        let granted = request.perm.ok_or(Error::PermissionNotGiven)?;
        if !is_range(&granted) {
            return Err(Error::InvalidAuthMgmt);
        }
        self.change_role(&request.name, |role| {
            let same =
                |of: &&mut Permission| of.key == granted.key && of.range_end == granted.range_end;
            match role.permissions.iter_mut().find(same) {
                Some(found) => found.perm_type = granted.perm_type,
                None => role.permissions.push(granted),
            }
            role.permissions.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(())
        })
    }

    fn revoke_permission(
        &mut self,
        request: &AuthRoleRevokePermissionRequest,
    ) -> Result<Changed, Error> {
        self.change_role(&request.role, |role| {
            let before = role.permissions.len();
            let revoked =
                |of: &Permission| of.key == request.key && of.range_end == request.range_end;
            role.permissions.retain(|of| !revoked(of));
            match role.permissions.len() < before {
                true => Ok(()),
                false => Err(Error::PermissionNotGranted),
            }
        })
    }

    fn change_user(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut User) -> Result<(), Error>,
    ) -> Result<Changed, Error> {
        let user = self.users.get_mut(name).ok_or(Error::UserNotFound)?;
        let user = Arc::make_mut(user);
        change(user)?;
        user.rights = rights::Rights::of(&user.roles, &self.roles);
        Ok(Changed::rows(vec![Changed::user(name, user)]))
    }

    fn change_role(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut AuthRole) -> Result<(), Error>,
    ) -> Result<Changed, Error> {
        let role = self.roles.get_mut(name).ok_or(Error::RoleNotFound)?;
        let role = Arc::make_mut(role);
        change(role)?;
        let changed = Changed::role(name, role);
        self.rights_of(name);
        Ok(Changed::rows(vec![changed]))
    }

    /// Computes the rights of a role's users again.
    fn rights_of(&mut self, role: &str) {
        self.compute_rights(|user| user.roles.iter().any(|own| own == role));
    }
}

/// Whether a permission is of a range that can exist.
fn is_range(of: &Permission) -> bool {
    match &of.range_end[..] {
        [] => !of.key.is_empty(),
        [0] => true,
        end => of.key[..] < *end,
    }
}

fn named(name: &str, empty: Error) -> Result<&str, Error> {
    match name.len() {
        0 => Err(empty),
        1..=NAME_BYTES_MAX => Ok(name),
        _ => Err(Error::NameTooLong),
    }
}
