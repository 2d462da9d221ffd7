//! Users at a member that has not applied yet that auth is enabled, or the key of tokens.

use bytes::Bytes;
use keelson_core::state::auth::Caller;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op as AuthOp;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{AuthChange, AuthEnable, AuthSecret};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::auth::{channel, enabled, with_token};
use super::*;
use crate::backend::Backend;
use crate::v3::auth::{Claims, JwtClaims};

const KEY: Bytes = Bytes::from_static(b"another key");

fn change(op: AuthOp) -> AuthChange {
    AuthChange { op: Some(op) }
}

/// A member at which auth is off. That it is enabled, with a new key, is committed and not applied.
async fn behind() -> Port {
    let (port, mut auth, _, root) = enabled().await;
    let disabled = auth.auth_disable(with_token(&root, AuthDisableRequest {}));
    disabled.await.expect("root");
    let enable = change(AuthOp::Enable(AuthEnable { secret: KEY }));
    port.fake
        .set(|fake| fake.unapplied = Some(Op::Auth(enable)));
    port
}

fn is_behind(port: &Port) -> bool {
    port.fake.condition().unapplied.is_some()
}

/// Alice's token of a login so many entries after the last one that is applied here.
fn token(port: &Port, later: u64) -> String {
    let auth = port.fake.view().auth();
    let claims = Claims {
        name: "alice".to_owned(),
        since: auth.user("alice").expect("it was added").since,
        applied: port.fake.view().applied_index().0 + later,
        issued: std::time::UNIX_EPOCH.elapsed().expect("after 1970"),
    };
    claims.signed(&KEY)
}

async fn put(port: &Port, token: &str, key: &'static str) -> Result<(), Status> {
    let mut kv = KvClient::new(channel(port).await);
    let put = PutRequest {
        key: key.into(),
        ..Default::default()
    };
    kv.put(with_token(token, put)).await.map(drop)
}

/// It was refused with `user name is empty`.
#[tokio::test]
async fn a_request_there_is_its_users() {
    let port = behind().await;
    put(&port, &token(&port, 1), "a").await.expect("hers");
    assert!(!is_behind(&port));
    let denied = put(&port, &token(&port, 0), "c").await;
    assert_eq!(denied.expect_err("not hers").code(), Code::PermissionDenied);
}

/// A client that goes on with its token when auth has been disabled would send a read with each
/// request, and garbage would as well.
#[tokio::test]
async fn tokens_that_tell_nothing_new_are_not_read() {
    let port = behind().await;
    for token in [&token(&port, 0), "x", &"A".repeat(200), "a.b.c"] {
        put(&port, token, "c").await.expect("auth is off here");
        assert!(is_behind(&port), "{token}");
    }
}

/// What is served without a quorum is so also for a user.
#[tokio::test]
async fn without_a_quorum_the_caller_there_has_no_user() {
    let port = behind().await;
    port.fake.set(|fake| fake.leaderless = true);
    let mut kv = KvClient::new(channel(&port).await);
    let read = RangeRequest {
        key: "c".into(),
        serializable: true,
        ..Default::default()
    };
    let read = kv.range(with_token(&token(&port, 1), read)).await;
    read.expect("auth is off here");
}

#[tokio::test]
async fn a_jwt_there_is_its_users() {
    for is_new in [true, false] {
        let port = behind().await;
        let (keys, ttl) = super::jwt::of_test();
        let revision = port.fake.auth().revision - u64::from(!is_new);
        let claims = JwtClaims {
            username: "alice".to_owned(),
            revision,
        };
        let end = std::time::UNIX_EPOCH.elapsed().expect("after 1970") + ttl;
        let token = keys.signed(&claims, end).expect("a private key");
        port.fake.set(|fake| fake.jwt = Some((keys, ttl)));
        let put = put(&port, &token, "c").await;
        assert_eq!(put.is_err(), is_new, "{put:?}");
        assert_eq!(is_behind(&port), !is_new);
    }
}

/// As after the restoration of a snapshot, which is without the key.
#[tokio::test]
async fn a_key_that_is_not_applied_is_waited_for() {
    let (port, _auth, _, _) = enabled().await;
    let member = port.fake.acting_as(Caller::Member);
    let no_key = AuthEnable::default();
    for op in [
        AuthOp::Disable(AuthDisableRequest {}),
        AuthOp::Enable(no_key),
    ] {
        member.auth_change(change(op)).await.expect("a change");
    }
    let key = change(AuthOp::SetSecret(AuthSecret { secret: KEY }));
    port.fake.set(|fake| fake.unapplied = Some(Op::Auth(key)));
    let old = put(&port, &token(&port, 0), "a").await;
    assert_eq!(old.expect_err("no key").code(), Code::Unauthenticated);
    assert!(is_behind(&port), "of a login that is applied");
    put(&port, &token(&port, 1), "a").await.expect("hers");
}

/// It had no user, and ended when the member had applied that auth is enabled.
#[tokio::test]
async fn a_watch_there_is_its_users() {
    let port = behind().await;
    let mut watches = WatchClient::new(channel(&port).await);
    let create = |key: &'static str| WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.into(),
            ..Default::default()
        })),
    };
    let sent = tokio_stream::iter([create("a"), create("c")]).chain(tokio_stream::pending());
    let watch = watches.watch(with_token(&token(&port, 1), sent)).await;
    let mut answers = watch.expect("a stream").into_inner();
    for is_hers in [true, false] {
        let created = answers.message().await.expect("no end").expect("an answer");
        assert!(created.created);
        assert_eq!(!created.canceled, is_hers, "{created:?}");
    }
}
