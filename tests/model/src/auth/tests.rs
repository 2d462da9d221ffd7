//! The model itself, where the product is not compared with it.

use bytes::Bytes;
use keelson_proto::authpb::Permission;
use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::AuthEnable;
use keelson_proto::internal::auth_change::Op;

use super::{Asked, Auth, By, Denial};

fn user_add(name: &str) -> Op {
    Op::UserAdd(AuthUserAddRequest {
        name: name.into(),
        ..AuthUserAddRequest::default()
    })
}

fn grant(user: &str, role: &str) -> Op {
    Op::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    })
}

fn permit(role: &str, kind: Type, key: &'static str, end: &'static str) -> Op {
    Op::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: end.into(),
        }),
    })
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        ..PutRequest::default()
    }
}

/// Auth with root, and `u` which may write `[a, c)`.
fn enabled() -> Auth {
    let mut auth = Auth::default();
    let role = AuthRoleAddRequest { name: "r".into() };
    let ops = [
        user_add("root"),
        grant("root", "root"),
        user_add("u"),
        Op::RoleAdd(role),
        grant("u", "r"),
        permit("r", Type::Write, "a", "c"),
        Op::Enable(AuthEnable::default()),
    ];
    for (entry, op) in (1..).zip(&ops) {
        auth.change(op, entry).expect("etcd permits it");
    }
    auth
}

#[test]
fn the_whole_of_a_request_is_checked() {
    let auth = enabled();
    let keys: Vec<Bytes> = ["a", "b", "c", "~"].map(Bytes::from).to_vec();
    let check = |by, asked: &Asked<'_>| auth.check(by, asked, &keys);
    let user = By::User("u", 0);
    assert_eq!(check(user, &Asked::Put(&put("b"))), Ok(()));
    assert_eq!(
        check(user, &Asked::Put(&put("c"))),
        Err(Denial::NoPermission)
    );
    assert_eq!(
        check(user, &Asked::Watch(b"a", b"")),
        Err(Denial::NoPermission)
    );
    assert_eq!(
        check(By::Nobody, &Asked::Put(&put("b"))),
        Err(Denial::NoUser)
    );
    assert_eq!(check(By::User("root", 0), &Asked::Compact), Ok(()));
    assert_eq!(check(By::Member, &Asked::Compact), Ok(()));
    let op = |request| RequestOp {
        request: Some(request),
    };
    let nested = TxnRequest {
        failure: vec![op(Request::RequestPut(put("c")))],
        ..TxnRequest::default()
    };
    let txn = TxnRequest {
        success: vec![op(Request::RequestTxn(nested))],
        ..TxnRequest::default()
    };
    assert_eq!(check(user, &Asked::Txn(&txn)), Err(Denial::NoPermission));
}

#[test]
fn a_token_ends_with_its_password_and_its_user() {
    let mut auth = enabled();
    let put = put("b");
    let check = |auth: &Auth, since| auth.check(By::User("u", since), &Asked::Put(&put), &[]);
    assert_eq!(check(&auth, 3), Ok(()));
    let password = AuthUserChangePasswordRequest {
        name: "u".into(),
        ..AuthUserChangePasswordRequest::default()
    };
    auth.change(&Op::UserChangePassword(password), 9).unwrap();
    assert_eq!(check(&auth, 3), Err(Denial::BadToken));
    assert_eq!(check(&auth, 9), Ok(()));
    let deleted = AuthUserDeleteRequest { name: "u".into() };
    auth.change(&Op::UserDelete(deleted), 10).unwrap();
    assert_eq!(check(&auth, 9), Err(Denial::BadToken));
    assert_eq!(check(&auth, 0), Err(Denial::NoPermission));
}

#[test]
fn a_refused_change_has_no_effect() {
    let mut auth = enabled();
    let before = auth.clone();
    let root = AuthUserDeleteRequest {
        name: "root".into(),
    };
    for op in [
        Op::UserDelete(root),
        user_add("u"),
        grant("u", "s"),
        permit("r", Type::Read, "b", "a"),
    ] {
        auth.change(&op, 9).unwrap_err();
        assert_eq!(auth, before);
    }
    // To grant a role again is no change.
    auth.change(&grant("u", "r"), 9).unwrap();
    assert_eq!(auth, before);
}

#[test]
fn a_lease_is_its_keys() {
    let auth = enabled();
    let attached =
        |keys: &[&'static str]| keys.iter().copied().map(Bytes::from).collect::<Vec<_>>();
    let check = |asked: &Asked<'_>, keys: &[&'static str]| {
        let keys = attached(keys);
        auth.check_with_lease(By::User("u", 0), asked, &[], &keys)
    };
    let denied = Err(Denial::NoPermission);
    assert_eq!(check(&Asked::Revoke, &[]), Ok(()));
    assert_eq!(check(&Asked::Revoke, &["a", "b"]), Ok(()));
    assert_eq!(check(&Asked::Revoke, &["a", "c"]), denied);
    let put = PutRequest {
        lease: 7,
        ..put("a")
    };
    assert_eq!(check(&Asked::Put(&put), &["b"]), Ok(()));
    assert_eq!(check(&Asked::Put(&put), &["c"]), denied);
    assert_eq!(check(&Asked::Grant, &["c"]), Ok(()));
}
