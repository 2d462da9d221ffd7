//! Users and roles as the API shows them: without the hashes of passwords. An etcd before 3.5 does
//! not count their changes, so they are compared.

use std::collections::BTreeMap;

use keelson_proto::authpb::Permission;
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::{
    AuthRoleGetRequest, AuthRoleListRequest, AuthUserGetRequest, AuthUserListRequest,
    AuthenticateRequest,
};
use keelson_store::{Error, Store};
use tonic::Status;

use super::source::SourceMember;
use crate::commands::access::text_is;

/// Users and roles of a cluster.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ShownUsers {
    is_enabled: bool,
    /// With the names of their roles, sorted.
    users: BTreeMap<String, Vec<String>>,
    /// With their permissions, sorted.
    roles: BTreeMap<String, Vec<Permission>>,
}

impl ShownUsers {
    /// Those of the standby.
    pub(super) fn here(store: &Store) -> ShownUsers {
        let auth = store.auth();
        let mut shown = ShownUsers {
            is_enabled: auth.enabled,
            ..ShownUsers::default()
        };
        for name in auth.user_names() {
            let roles = auth.user(name).map(|user| user.roles.clone());
            shown.add_user(name.clone(), roles.unwrap_or_default());
        }
        for name in auth.role_names() {
            let permissions = auth.role(name).map(|role| role.permissions.clone());
            shown.add_role(name.clone(), permissions.unwrap_or_default());
        }
        shown
    }

    /// Those of the source, one call for each user and role.
    pub(super) async fn there(source: &SourceMember) -> Result<ShownUsers, Status> {
        let mut auth = AuthClient::new(source.channel.clone());
        let mut shown = ShownUsers::default();
        // No such user exists: the refusal states whether a login is possible at all.
        let nobody = AuthenticateRequest::default();
        shown.is_enabled = match auth.authenticate(nobody).await {
            Err(status) if text_is(&status, &Error::AuthNotEnabled) => false,
            Err(status) if !text_is(&status, &Error::AuthFailed) => return Err(status),
            _ => true,
        };
        let users = auth.user_list(AuthUserListRequest::default()).await?;
        for name in users.into_inner().users {
            let request = AuthUserGetRequest { name: name.clone() };
            let user = auth.user_get(request).await?.into_inner();
            shown.add_user(name, user.roles);
        }
        let roles = auth.role_list(AuthRoleListRequest::default()).await?;
        for name in roles.into_inner().roles {
            let request = AuthRoleGetRequest { role: name.clone() };
            let role = auth.role_get(request).await?.into_inner();
            shown.add_role(name, role.perm);
        }
        Ok(shown)
    }

    /// What differs, the first one by name: `user "a"`.
    pub(super) fn difference(&self, theirs: &ShownUsers) -> Option<String> {
        if self.is_enabled != theirs.is_enabled {
            return Some("whether auth is enabled".to_owned());
        }
        let user = first_difference(&self.users, &theirs.users);
        let role = || first_difference(&self.roles, &theirs.roles);
        user.map(|name| format!("user {name:?}"))
            .or_else(|| role().map(|name| format!("role {name:?}")))
    }

    pub(super) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    fn add_user(&mut self, name: String, mut roles: Vec<String>) {
        roles.sort();
        self.users.insert(name, roles);
    }

    fn add_role(&mut self, name: String, mut permissions: Vec<Permission>) {
        let order = |permission: &Permission| {
            let (key, end) = (permission.key.clone(), permission.range_end.clone());
            (key, end, permission.perm_type)
        };
        permissions.sort_by_key(order);
        self.roles.insert(name, permissions);
    }
}

fn first_difference<'a, T: PartialEq>(
    ours: &'a BTreeMap<String, T>,
    theirs: &'a BTreeMap<String, T>,
) -> Option<&'a String> {
    let names = ours.keys().chain(theirs.keys());
    let differ = names.filter(|name| ours.get(*name) != theirs.get(*name));
    differ.min()
}
