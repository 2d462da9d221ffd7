//! The administrator: root, which creates users and roles, enables auth, and then changes rights
//! without end.

use bytes::Bytes;
use keelson_core::node::Input;
use keelson_core::state::auth::Caller;
use keelson_core::state::{self, Response};
use keelson_core::{MemberId, ProposalId};
use keelson_model::auth::Auth;
use keelson_proto::authpb::Permission;
use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op;
use keelson_proto::internal::{AuthChange, AuthEnable, Command, command};
use prost::Message;

use super::callers::user_name;
use crate::sim::event::{Event, Waiter};
use crate::sim::world::World;

/// The administrator's user and role.
pub(super) const ROOT: &str = "root";
/// The roles whose permissions it changes.
const ROLES: [&str; 2] = ["r0", "r1"];
/// Ranges of the keys of holders and of locks.
const OF_LEASES: [(&str, &str); 5] = [
    ("l", "m"),
    ("l", "lock"),
    ("lock", "m"),
    ("lock0", "lock1"),
    ("lock1", "m"),
];
/// The role that permits compactions.
const COMPACTOR: &str = "compactor";

/// The administrator.
#[derive(Default)]
pub(super) struct Admin {
    /// The number of its request.
    number: u64,
    waits: bool,
    /// Auth was enabled once.
    is_set_up: bool,
}

impl World {
    /// The administrator's turn: it sends a change to a member.
    pub(in crate::sim) fn admin_acts(&mut self) {
        if self.clients.quiet {
            return;
        }
        let Some(member) = self.dice.pick(&self.running()) else {
            self.clock.after(500, Event::Admin(None));
            return;
        };
        let op = self.draw_rights_change();
        self.auth.admin.number += 1;
        self.auth.admin.waits = true;
        let number = self.auth.admin.number;
        let patience = self.swarm.patience_ms;
        self.clock.after(patience, Event::Admin(Some(number)));
        if let Some(id) = self.name_proposal(member) {
            self.admin_proposes(member, id, op);
            self.waiting.insert(id, Waiter::Admin(number));
        }
    }

    fn admin_proposes(&mut self, member: MemberId, id: ProposalId, op: Op) {
        let op = command::Op::Auth(AuthChange { op: Some(op) });
        let root = Caller::User {
            name: ROOT.to_owned(),
            since: 0,
        };
        let enabled = self.auth_enabled(member);
        let op = if enabled { root.signed(op) } else { op };
        let command = Command { op: Some(op) }.encode_to_vec().into();
        self.input(member, Input::Propose { id, command });
    }

    /// A change is applied at the entry with that index, or certainly not in the log.
    pub(in crate::sim) fn admin_answered(
        &mut self,
        number: u64,
        answer: Option<(u64, Result<Response, state::Error>)>,
    ) -> Result<(), String> {
        if let Some((index, response)) = answer {
            let agreed = &mut self.auth.agreed;
            if response.is_ok() != agreed.has_changed(index) {
                return Err(format!(
                    "auth: the change of entry {index} got {response:?}"
                ));
            }
            if response.is_ok() {
                agreed.acknowledged = agreed.acknowledged.max(index);
            }
            self.note(index << 8 ^ 0xad);
        }
        self.admin_goes_on(number);
        Ok(())
    }

    /// The administrator goes on after a change, or gives it up.
    pub(in crate::sim) fn admin_goes_on(&mut self, number: u64) {
        let admin = &mut self.auth.admin;
        if admin.number != number || !std::mem::take(&mut admin.waits) {
            return;
        }
        let most = if admin.is_set_up { 1_500 } else { 50 };
        let pause = self.dice.between(1, most);
        self.clock.after(pause, Event::Admin(None));
    }

    fn draw_rights_change(&mut self) -> Op {
        if !self.auth.admin.is_set_up {
            if let Some(op) = self.next_of_setup() {
                return op;
            }
            self.auth.admin.is_set_up = true;
        }
        let rights = self.auth.agreed.last().clone();
        if !rights.enabled && self.dice.chance(0.5) {
            return enable();
        }
        let number = self.dice.between(0, self.swarm.users - 1);
        let user = user_name(number);
        match self.dice.between(0, 99) {
            0..40 => self.draw_permission(&rights),
            40..70 => self.draw_role_of(&rights, user),
            70..80 => Op::UserChangePassword(AuthUserChangePasswordRequest {
                name: user,
                ..AuthUserChangePasswordRequest::default()
            }),
            80..83 if rights.users.contains_key(&user) => {
                Op::UserDelete(AuthUserDeleteRequest { name: user })
            }
            80..88 => user_add(user),
            88..93 => {
                let role = self.dice.pick(&ROLES).expect("not empty").to_owned();
                match rights.roles.contains_key(&role) {
                    true if self.dice.chance(0.4) => Op::RoleDelete(AuthRoleDeleteRequest { role }),
                    true => permit(&role, Type::Readwrite, "k", self.keys_end()),
                    false => Op::RoleAdd(AuthRoleAddRequest { name: role }),
                }
            }
            _ => Op::Disable(AuthDisableRequest {}),
        }
    }

    /// The first change that is missing for every user to have the rights of all roles.
    fn next_of_setup(&mut self) -> Option<Op> {
        let rights = self.auth.agreed.last();
        let users = (0..self.swarm.users).map(user_name);
        for name in users.chain([ROOT.to_owned()]) {
            let Some(user) = rights.users.get(&name) else {
                return Some(user_add(name));
            };
            let wanted: &[&str] = match &name[..] {
                ROOT => &[ROOT],
                _ => &[ROLES[0], ROLES[1], COMPACTOR],
            };
            let known = |role: &&str| rights.roles.contains_key(*role) || !ROLES.contains(role);
            for role in wanted {
                if !known(role) {
                    let name = (*role).to_owned();
                    return Some(Op::RoleAdd(AuthRoleAddRequest { name }));
                }
                if !user.roles.contains(*role) {
                    return Some(grant(&name, role));
                }
            }
        }
        let without = |role: &&str| rights.roles.get(*role).is_some_and(|of| of.is_empty());
        match ROLES.iter().find(|role| without(role)) {
            Some(role) => Some(permit(role, Type::Readwrite, "k", self.keys_end())),
            None => (!rights.enabled).then(enable),
        }
    }

    fn draw_permission(&mut self, rights: &Auth) -> Op {
        let role = self.dice.pick(&ROLES).expect("not empty");
        let permissions = rights.roles.get(role).into_iter().flatten();
        let ranges: Vec<_> = permissions.map(|(range, _)| range.clone()).collect();
        if let Some((key, range_end)) = self.dice.pick_of(&ranges)
            && self.dice.chance(0.3)
        {
            return Op::RoleRevokePermission(AuthRoleRevokePermissionRequest {
                role: role.to_owned(),
                key,
                range_end,
            });
        }
        let kinds = [Type::Read, Type::Write, Type::Readwrite, Type::Readwrite];
        let kind = self.dice.pick(&kinds).expect("not empty");
        if self.swarm.leases.clients != 0 && self.dice.chance(0.4) {
            let (from, to) = self.dice.pick(&OF_LEASES).expect("not empty");
            return permit(role, kind, from, to);
        }
        let from = format!("k{}", self.dice.between(0, 7));
        let to = format!("k{}", self.dice.between(8, 9));
        match self.dice.between(0, 4) {
            0 => permit(role, kind, &from, ""),
            1 => permit(role, kind, &from, &to),
            2 => permit(role, kind, &from, "\0"),
            _ => permit(role, kind, "k", self.keys_end()),
        }
    }

    /// The end of all keys.
    fn keys_end(&self) -> &'static str {
        match self.swarm.leases.clients {
            0 => "l",
            _ => "m",
        }
    }

    fn draw_role_of(&mut self, rights: &Auth, user: String) -> Op {
        let roles = [ROLES[0], ROLES[1], COMPACTOR];
        let role = self.dice.pick(&roles).expect("not empty");
        let has = rights
            .users
            .get(&user)
            .map(|user| user.roles.contains(role));
        match has {
            Some(true) if self.dice.chance(0.4) => Op::UserRevokeRole(AuthUserRevokeRoleRequest {
                name: user,
                role: role.to_owned(),
            }),
            Some(_) => grant(&user, role),
            None => user_add(user),
        }
    }
}

fn enable() -> Op {
    Op::Enable(AuthEnable {
        secret: Bytes::from_static(b"secret"),
    })
}

fn user_add(name: String) -> Op {
    Op::UserAdd(AuthUserAddRequest {
        name,
        ..AuthUserAddRequest::default()
    })
}

fn grant(user: &str, role: &str) -> Op {
    Op::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

fn permit(role: &str, kind: Type, key: &str, range_end: &str) -> Op {
    Op::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        }),
    })
}
