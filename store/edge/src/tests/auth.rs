//! Auth over real sockets: logins, tokens, and requests without them.

use std::time::SystemTime;

use keelson_core::state::Error as StateError;
use keelson_proto::authpb::permission::Type;
use keelson_proto::authpb::{Permission, UserAddOptions};
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::*;
use crate::Error;

pub(super) type Client = AuthClient<Channel>;

pub(super) async fn channel(port: &Port) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", port.address)).expect("a URL");
    endpoint.connect().await.expect("it listens")
}

pub(super) fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().expect("ASCII");
    request.metadata_mut().insert("token", token);
    request
}

pub(super) async fn log_in(
    auth: &mut Client,
    name: &str,
    password: &str,
) -> Result<String, Status> {
    let request = AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    Ok(auth.authenticate(request).await?.into_inner().token)
}

pub(super) async fn add_user(auth: &mut Client, name: &str, role: &str) {
    let user = AuthUserAddRequest {
        name: name.into(),
        password: format!("{name}-pw"),
        ..Default::default()
    };
    auth.user_add(user).await.expect("a new user");
    let grant = AuthUserGrantRoleRequest {
        user: name.into(),
        role: role.into(),
    };
    auth.user_grant_role(grant).await.expect("it exists");
}

/// A port with auth. `alice` may read and write `[a, c)`. Returns her token and root's.
pub(super) async fn enabled() -> (Port, Client, String, String) {
    enabled_at(Port::start().await).await
}

/// The same of this port.
pub(super) async fn enabled_at(port: Port) -> (Port, Client, String, String) {
    let mut auth = AuthClient::new(channel(&port).await);
    let role = AuthRoleAddRequest { name: "r".into() };
    auth.role_add(role).await.expect("a new role");
    let grant = AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: "a".into(),
            range_end: "c".into(),
        }),
    };
    auth.role_grant_permission(grant).await.expect("a range");
    add_user(&mut auth, "root", "root").await;
    add_user(&mut auth, "alice", "r").await;
    auth.auth_enable(AuthEnableRequest {}).await.expect("root");
    let alice = log_in(&mut auth, "alice", "alice-pw").await.expect("her");
    let root = log_in(&mut auth, "root", "root-pw").await.expect("it");
    (port, auth, alice, root)
}

fn text(error: StateError) -> String {
    error.to_string()
}

#[tokio::test]
async fn logins_are_refused_without_auth_and_with_wrong_names_and_passwords() {
    let port = Port::start().await;
    let mut auth = AuthClient::new(channel(&port).await);
    let off = log_in(&mut auth, "root", "x").await.expect_err("off");
    assert_eq!(off.code(), Code::FailedPrecondition);
    assert_eq!(off.message(), Error::AuthNotEnabled.to_string());

    let (_port, mut auth, _, root) = enabled().await;
    let no_password = AuthUserAddRequest {
        name: "cn".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    let added = auth.user_add(with_token(&root, no_password)).await;
    added.expect("root adds it");
    for (name, password) in [("alice", "x"), ("alice", ""), ("nobody", "x"), ("", "")] {
        let refused = log_in(&mut auth, name, password).await.expect_err(name);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), Error::AuthFailed.to_string());
    }
    let refused = log_in(&mut auth, "cn", "").await.expect_err("none");
    assert_eq!(refused.code(), Code::Unknown);
    let text = "auth: authentication failed, password was given for no password user";
    assert_eq!(refused.message(), text);
    let long = AuthUserAddRequest {
        name: "long".into(),
        password: "x".repeat(73),
        ..Default::default()
    };
    let long = auth
        .user_add(with_token(&root, long))
        .await
        .expect_err("73");
    assert_eq!(long.message(), "bcrypt: password length exceeds 72 bytes");
}

#[tokio::test]
async fn a_token_gives_the_rights_of_its_user() {
    let (port, mut auth, alice, root) = enabled().await;
    let mut kv = KvClient::new(channel(&port).await);
    let put = |key: &'static str| PutRequest {
        key: key.into(),
        ..Default::default()
    };
    kv.put(with_token(&alice, put("a"))).await.expect("hers");
    let denied = kv
        .put(with_token(&alice, put("c")))
        .await
        .expect_err("not hers");
    assert_eq!(denied.code(), Code::PermissionDenied);
    kv.put(with_token(&root, put("c")))
        .await
        .expect("all is root's");
    let mut bearer = Request::new(put("b"));
    let value = format!("Bearer {alice}").parse().expect("ASCII");
    bearer.metadata_mut().insert("authorization", value);
    kv.put(bearer).await.expect("hers");

    // A change of her rights leaves her token valid.
    let revoke = AuthRoleRevokePermissionRequest {
        role: "r".into(),
        key: "a".into(),
        range_end: "c".into(),
    };
    auth.role_revoke_permission(with_token(&root, revoke))
        .await
        .expect("root");
    let denied = kv
        .put(with_token(&alice, put("a")))
        .await
        .expect_err("no longer");
    assert_eq!(denied.code(), Code::PermissionDenied);
    let change = AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "other".into(),
        ..Default::default()
    };
    auth.user_change_password(with_token(&root, change))
        .await
        .expect("root");
    for token in [alice.as_str(), "x", "x.1", &root[1..]] {
        let refused = kv.put(with_token(token, put("a"))).await.expect_err(token);
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(refused.message(), text(StateError::InvalidAuthToken));
    }
    auth.auth_disable(with_token(&root, AuthDisableRequest {}))
        .await
        .expect("root");
    kv.put(with_token("x", put("a")))
        .await
        .expect("tokens are not read");
}

#[tokio::test]
async fn watchers_are_refused_one_by_one() {
    let (port, _auth, alice, _) = enabled().await;
    let mut watches = WatchClient::new(channel(&port).await);
    let create = |key: &'static str, end: &'static str| WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            ..Default::default()
        })),
    };
    let permission = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    let requests = [
        (create("a", "c"), ""),
        (create("a", "\0"), permission),
        (create("", "\0"), permission),
        (create("b", ""), ""),
    ];
    let expected = requests.clone().map(|(_, reason)| reason);
    let sent = tokio_stream::iter(requests.map(|(request, _)| request));
    let mut answers = watches
        .watch(with_token(&alice, sent))
        .await
        .expect("a stream")
        .into_inner();
    for reason in expected {
        let answer = answers.message().await.expect("no end").expect("an answer");
        assert!(answer.created);
        assert_eq!(
            (answer.canceled, answer.cancel_reason.as_str()),
            (!reason.is_empty(), reason)
        );
    }
    for (token, reason) in [
        (
            None,
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
        (
            Some("x"),
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
    ] {
        let sent = tokio_stream::iter([create("a", "")]);
        let request = match token {
            Some(token) => with_token(token, sent),
            None => Request::new(sent),
        };
        let mut answers = watches.watch(request).await.expect("a stream").into_inner();
        let answer = answers.message().await.expect("no end").expect("an answer");
        assert_eq!(answer.cancel_reason, reason);
    }
}

#[tokio::test]
async fn a_watch_ends_when_its_user_loses_the_right_to_it() {
    let (port, mut auth, alice, root) = enabled().await;
    let mut watches = WatchClient::new(channel(&port).await);
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: "a".into(),
            ..Default::default()
        })),
    };
    let sent = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let watch = watches.watch(with_token(&alice, sent)).await;
    let mut answers = watch.expect("a stream").into_inner();
    let created = answers.message().await.expect("no end").expect("an answer");
    assert!(created.created && !created.canceled);
    let revoke = AuthUserRevokeRoleRequest {
        name: "alice".into(),
        role: "r".into(),
    };
    let revoked = auth.user_revoke_role(with_token(&root, revoke)).await;
    revoked.expect("root");
    let ended = answers.message().await.expect("no end").expect("an answer");
    assert!(ended.canceled && !ended.created);
    assert_eq!(ended.watch_id, created.watch_id);
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(ended.cancel_reason, reason);
}

#[tokio::test]
async fn a_token_that_has_ended_here_is_valid_if_another_member_has_seen_a_use() {
    let (port, _auth, alice, _) = enabled().await;
    let mut kv = KvClient::new(channel(&port).await);
    let mut put = async || {
        let put = PutRequest {
            key: "a".into(),
            ..Default::default()
        };
        kv.put(with_token(&alice, put)).await.map(drop)
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970");
    port.fake.set(|fake| fake.token_ttl = Some(Duration::ZERO));
    let refused = put().await.expect_err("nobody has seen it");
    assert_eq!(refused.message(), text(StateError::InvalidAuthToken));
    port.fake.set(|fake| fake.used_elsewhere = Some(now));
    put()
        .await
        .expect_err("the other use was too long ago as well");
    let soon = now + Duration::from_secs(60);
    port.fake.set(|fake| fake.used_elsewhere = Some(soon));
    put().await.expect("it was used there");
    port.fake.set(|fake| fake.used_elsewhere = None);
    put().await.expect("this member knows now");
}
