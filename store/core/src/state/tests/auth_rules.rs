//! The rules of changes of users, roles and permissions, with etcd's texts.

use keelson_proto::authpb::permission::Type;
use keelson_proto::authpb::{Permission, UserAddOptions};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op as AuthOp;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{AuthChange, AuthEnable, AuthSecret};
use proptest::prelude::*;

use super::harness::Machine;
use super::requests::bytes;
use crate::state::auth::{Auth, Caller, Duty};
use crate::state::*;

pub(super) fn auth(op: AuthOp) -> Op {
    Op::Auth(AuthChange { op: Some(op) })
}

pub(super) fn enable() -> AuthOp {
    let secret = bytes("secret");
    AuthOp::Enable(AuthEnable { secret })
}

pub(super) fn disable() -> AuthOp {
    AuthOp::Disable(AuthDisableRequest {})
}

pub(super) fn user_add(name: &str) -> AuthOp {
    AuthOp::UserAdd(AuthUserAddRequest {
        name: name.into(),
        hashed_password: "hash".into(),
        ..Default::default()
    })
}

fn user_delete(name: &str) -> AuthOp {
    AuthOp::UserDelete(AuthUserDeleteRequest { name: name.into() })
}

pub(super) fn password(name: &str, hashed: &str) -> AuthOp {
    AuthOp::UserChangePassword(AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password: hashed.into(),
        ..Default::default()
    })
}

pub(super) fn grant_role(user: &str, role: &str) -> AuthOp {
    AuthOp::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    })
}

pub(super) fn revoke_role(user: &str, role: &str) -> AuthOp {
    AuthOp::UserRevokeRole(AuthUserRevokeRoleRequest {
        name: user.into(),
        role: role.into(),
    })
}

pub(super) fn role_add(name: &str) -> AuthOp {
    AuthOp::RoleAdd(AuthRoleAddRequest { name: name.into() })
}

fn role_delete(role: &str) -> AuthOp {
    AuthOp::RoleDelete(AuthRoleDeleteRequest { role: role.into() })
}

pub(super) fn permit(role: &str, kind: Type, key: &str, end: &str) -> AuthOp {
    AuthOp::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: bytes(key),
            range_end: bytes(end),
        }),
    })
}

pub(super) fn revoke(role: &str, key: &str, end: &str) -> AuthOp {
    AuthOp::RoleRevokePermission(AuthRoleRevokePermissionRequest {
        role: role.into(),
        key: bytes(key),
        range_end: bytes(end),
    })
}

impl Machine {
    pub(super) fn auth(&mut self, op: AuthOp) -> Result<(), Error> {
        match self.apply(Caller::Member.signed(auth(op)))? {
            Response::Auth(header) => assert_eq!(header.revision, self.state.view().revision()),
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    /// Auth with root, and a user `u` whose role `r` has no permission.
    pub(super) fn with_auth() -> Machine {
        let mut machine = Machine::new();
        let ops = [
            user_add("root"),
            grant_role("root", "root"),
            user_add("u"),
            role_add("r"),
        ];
        for op in ops.into_iter().chain([grant_role("u", "r"), enable()]) {
            machine.auth(op).expect("etcd permits it");
        }
        machine
    }

    fn revision(&self) -> u64 {
        self.state.view().auth().revision
    }
}

/// A login at a restored cluster, which has no key, enabled auth again.
#[test]
fn a_key_for_tokens_does_not_enable_auth_that_was_disabled_meanwhile() {
    let key = |key| AuthOp::SetSecret(AuthSecret { secret: bytes(key) });
    let mut machine = Machine::with_auth();
    machine.auth(disable()).unwrap();
    let before = machine.state.view().auth();
    machine.auth(key("late")).unwrap();
    assert_eq!(machine.state.view().auth(), before);
    // And it takes the place of no key.
    machine.auth(enable()).unwrap();
    machine.auth(key("second")).unwrap();
    assert_eq!(machine.state.view().auth().secret, bytes("secret"));
}

/// Such a role had every right, and has none in etcd: a cluster that was imported gained them.
#[test]
fn a_permission_that_begins_with_the_empty_key_permits_nothing() {
    let mut machine = Machine::with_auth();
    for end in ["\0", "z"] {
        let permission = permit("r", Type::Readwrite, "", end);
        machine.auth(permission).expect("etcd takes it");
    }
    let rights = |machine: &Machine| {
        machine
            .state
            .view()
            .auth()
            .user("u")
            .unwrap()
            .rights
            .clone()
    };
    let key = || KeyRange::One(b"a");
    assert!(!rights(&machine).may_read(key()) && !rights(&machine).may_write(key()));
    let permission = permit("r", Type::Readwrite, "\0", "\0");
    machine.auth(permission).unwrap();
    assert!(rights(&machine).may_read(key()) && rights(&machine).may_write(key()));
}

#[test]
fn refusals_have_etcds_texts() {
    let mut machine = Machine::new();
    let mut refused = |op: AuthOp, text: &str| {
        let before = machine.state.view().auth();
        let error = machine.auth(op).expect_err(text);
        assert_eq!(error.to_string(), format!("etcdserver: {text}"));
        assert_eq!(machine.state.view().auth(), before);
    };
    refused(enable(), "root user does not exist");
    refused(user_add(""), "user name is empty");
    refused(role_add(""), "role name is empty");
    refused(user_delete("u"), "user name not found");
    refused(password("u", "x"), "user name not found");
    refused(grant_role("u", "r"), "user name not found");
    refused(revoke_role("u", "r"), "user name not found");
    refused(role_delete("r"), "role name not found");
    refused(permit("r", Type::Read, "a", ""), "role name not found");
    refused(revoke("r", "a", ""), "role name not found");

    let mut machine = Machine::with_auth();
    let mut refused = |op: AuthOp, text: &str| {
        let error = machine.auth(op).expect_err(text);
        assert_eq!(error.to_string(), format!("etcdserver: {text}"));
    };
    refused(user_add("u"), "user name already exists");
    refused(role_add("r"), "role name already exists");
    refused(grant_role("u", "absent"), "role name not found");
    refused(
        revoke_role("u", "absent"),
        "role is not granted to the user",
    );
    refused(
        revoke("r", "a", ""),
        "permission is not granted to the role",
    );
    refused(permit("r", Type::Read, "b", "a"), "invalid auth management");
    refused(permit("r", Type::Read, "", ""), "invalid auth management");
    refused(user_delete("root"), "invalid auth management");
    refused(role_delete("root"), "invalid auth management");
    refused(revoke_role("root", "root"), "invalid auth management");
    let no_permission = AuthOp::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: None,
    });
    refused(no_permission, "permission not given");

    let mut machine = Machine::new();
    machine.auth(user_add("root")).unwrap();
    let error = machine.auth(enable()).unwrap_err();
    assert_eq!(error, Error::RootRoleNotExist);
}

/// A row's key in the engine is bounded: longer ones would stop the member.
#[test]
fn long_names_are_refused() {
    let mut machine = Machine::new();
    let name = "n".repeat(257);
    assert_eq!(machine.auth(user_add(&name)), Err(Error::NameTooLong));
    assert_eq!(machine.auth(role_add(&name)), Err(Error::NameTooLong));
    machine.auth(user_add(&name[1..])).unwrap();
}

/// One for each change. A repeated grant, and enabling, are none in etcd.
#[test]
fn the_revision_advances_as_in_etcd() {
    let mut machine = Machine::new();
    assert_eq!(machine.revision(), 1);
    machine.auth(user_add("root")).unwrap();
    machine.auth(grant_role("root", "root")).unwrap();
    machine.auth(grant_role("root", "root")).unwrap();
    machine.auth(enable()).unwrap();
    machine.auth(enable()).unwrap();
    assert_eq!(machine.revision(), 3);
    machine.auth(disable()).unwrap();
    machine.auth(disable()).unwrap();
    assert_eq!(machine.revision(), 4);
    // Without auth, root is a user like any other.
    machine.auth(revoke_role("root", "root")).unwrap();
    machine.auth(user_delete("root")).unwrap();
    assert_eq!(machine.revision(), 6);
}

#[test]
fn a_deleted_role_is_revoked_from_its_users() {
    let mut machine = Machine::with_auth();
    machine.auth(permit("r", Type::Write, "a", "")).unwrap();
    let may = |machine: &Machine| {
        let auth = machine.state.view().auth();
        auth.user("u")
            .unwrap()
            .rights
            .may_write(KeyRange::One(b"a"))
    };
    assert!(may(&machine));
    machine.auth(role_delete("r")).unwrap();
    assert!(!may(&machine));
    machine.auth(role_add("r")).unwrap();
    machine.auth(permit("r", Type::Write, "a", "")).unwrap();
    assert!(!may(&machine), "the new role was not granted");
}

#[test]
fn a_stored_role_takes_the_place_of_a_built_in_one() {
    let mut machine = Machine::with_auth();
    let has = |machine: &Machine| {
        let auth = machine.state.view().auth();
        auth.user("u").unwrap().rights.has(Duty::Compact)
    };
    machine.auth(grant_role("u", "compactor")).unwrap();
    assert!(has(&machine));
    // A role of this name that an operator made for something else.
    machine.auth(role_add("compactor")).unwrap();
    assert!(!has(&machine));
}

#[test]
fn a_token_outlives_changes_of_rights_and_no_change_of_password() {
    let mut machine = Machine::with_auth();
    let since = |machine: &Machine| machine.state.view().auth().user("u").unwrap().since;
    let first = since(&machine);
    machine.auth(permit("r", Type::Read, "a", "")).unwrap();
    machine.auth(revoke_role("u", "r")).unwrap();
    assert_eq!(since(&machine), first);
    machine.auth(password("u", "other")).unwrap();
    assert!(first < since(&machine));
}

/// In etcd it would end with each change of any user or role (etcd#13300).
#[test]
fn a_token_with_a_revision_ends_with_the_password_of_its_user_alone() {
    let mut machine = Machine::with_auth();
    let auth = |machine: &Machine| machine.state.view().auth();
    let at = auth(&machine).revision;
    let caller = auth(&machine).caller_of("u".into(), at);
    let since = auth(&machine).user("u").unwrap().since;
    let name = "u".to_owned();
    assert_eq!(caller, Ok(Caller::User { name, since }));
    machine.auth(role_add("s")).unwrap();
    machine.auth(revoke_role("u", "r")).unwrap();
    assert!(auth(&machine).caller_of("u".into(), at).is_ok());
    machine.auth(password("u", "other")).unwrap();
    let late = auth(&machine).revision;
    for (revision, expected) in [(0, false), (at, false), (late - 1, false), (late, true)] {
        let caller = auth(&machine).caller_of("u".into(), revision);
        assert_eq!(caller.is_ok(), expected, "{revision}");
        assert!(expected || caller == Err(Error::AuthOldRevision));
    }
    machine.auth(user_delete("u")).unwrap();
    let gone = auth(&machine).caller_of("u".into(), late);
    assert_eq!(gone, Err(Error::PermissionDenied));
    machine.auth(user_add("u")).unwrap();
    let again = auth(&machine).caller_of("u".into(), late);
    assert_eq!(
        again,
        Err(Error::AuthOldRevision),
        "another user of its name"
    );
}

fn any_change() -> impl Strategy<Value = AuthOp> {
    let name = |number: u8| ["root", "u", "v", "r", "s"][usize::from(number) % 5];
    (0..12_u8, 0..5_u8, 0..5_u8, 0..3_i32).prop_map(move |(kind, a, b, perm)| {
        let (a, b) = (name(a), name(b));
        let kind_of = Type::try_from(perm).expect("a kind");
        match kind {
            0 => user_add(a),
            1 => user_delete(a),
            2 => password(a, b),
            3 | 4 => grant_role(a, b),
            5 => revoke_role(a, b),
            6 | 7 => role_add(a),
            8 => role_delete(a),
            9 => permit(a, kind_of, b, ["", "\0", "z"][perm as usize]),
            10 => revoke(a, b, ["", "\0", "z"][perm as usize]),
            _ if perm == 0 => disable(),
            _ => AuthOp::UserAdd(AuthUserAddRequest {
                name: a.into(),
                options: Some(UserAddOptions { no_password: true }),
                ..Default::default()
            }),
        }
    })
}

fn state_of(state: &StateMachine) -> Auth {
    Auth::clone(&state.view().auth())
}

proptest! {
    /// The rights are computed step by step while changes are applied, and at once when the rows
    /// are read.
    #[test]
    fn auth_is_the_same_after_a_restart_and_in_a_snapshot(
        changes in proptest::collection::vec((any_change(), any::<bool>()), 0..40),
    ) {
        let mut machine = Machine::with_auth();
        for (change, flush) in changes {
            let _ = machine.auth(change);
            if flush {
                machine.flush();
            }
        }
        let before = state_of(&machine.state);
        let (rows, end) = super::snapshots::parts(machine.state.capture().unwrap(), 200);
        let copy = super::snapshots::install(rows, end).unwrap();
        prop_assert_eq!(state_of(&copy), before.clone());
        machine.restart();
        prop_assert_eq!(state_of(&machine.state), before.clone());
        machine.flush();
        machine.restart();
        prop_assert_eq!(state_of(&machine.state), before);
    }
}
