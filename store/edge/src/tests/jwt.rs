//! JWT tokens over real sockets.

use std::sync::Arc;

use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::*;
use tonic::{Code, Status};

use super::auth::{add_user, channel, log_in, with_token};
use super::*;
use crate::{JwtKeys, JwtMethod};

const TTL: Duration = Duration::from_secs(300);

fn keys(method: &str, public: Option<&str>, private: Option<&str>) -> Arc<JwtKeys> {
    let method = JwtMethod::named(method).expect(method);
    let bytes = |pem: &str| pem.as_bytes().to_vec();
    let (public, private) = (public.map(bytes), private.map(bytes));
    Arc::new(JwtKeys::new(method, public.as_deref(), private.as_deref()).expect("keys"))
}

fn of_p256(private: bool) -> Arc<JwtKeys> {
    let public = include_str!("../v3/auth/jwt/keys/p256-pub.pem");
    let secret = include_str!("../v3/auth/jwt/keys/p256.pem");
    keys("ES256", Some(public), private.then_some(secret))
}

/// Keys with both parts, and a time to live.
pub(super) fn of_test() -> (Arc<JwtKeys>, Duration) {
    (of_p256(true), TTL)
}

async fn put(port: &Port, token: &str) -> Result<(), Status> {
    let mut kv = KvClient::new(channel(port).await);
    let put = PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    kv.put(with_token(token, put)).await.map(drop)
}

#[tokio::test]
async fn a_jwt_outlives_changes_of_rights_and_no_change_of_password() {
    let port = Port::start().await;
    port.fake
        .set(|state| state.jwt = Some((of_p256(true), TTL)));
    let mut auth = AuthClient::new(channel(&port).await);
    add_user(&mut auth, "root", "root").await;
    auth.auth_enable(AuthEnableRequest {}).await.expect("root");
    let token = log_in(&mut auth, "root", "root-pw").await.expect("it");
    assert_eq!(token.split('.').count(), 3);
    put(&port, &token).await.expect("all is root's");
    // In etcd this ends every token.
    let role = AuthRoleAddRequest { name: "s".into() };
    auth.role_add(with_token(&token, role)).await.expect("root");
    put(&port, &token).await.expect("it is still valid");

    let change = AuthUserChangePasswordRequest {
        name: "root".into(),
        password: "other".into(),
        ..Default::default()
    };
    let changed = auth.user_change_password(with_token(&token, change)).await;
    changed.expect("root");
    let old = put(&port, &token).await.expect_err("of the old password");
    assert_eq!(old.code(), Code::InvalidArgument);
    assert_eq!(old.message(), "etcdserver: revision of auth store is old");
    let token = log_in(&mut auth, "root", "other").await.expect("it");
    put(&port, &token).await.expect("it is new");
    for bad in ["x", "a.b.c", &token[1..], &token[..token.len() - 1]] {
        let refused = put(&port, bad).await.expect_err(bad);
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_member_with_a_public_key_verifies_and_issues_no_token() {
    let port = Port::start().await;
    port.fake
        .set(|state| state.jwt = Some((of_p256(true), TTL)));
    let mut auth = AuthClient::new(channel(&port).await);
    add_user(&mut auth, "root", "root").await;
    auth.auth_enable(AuthEnableRequest {}).await.expect("root");
    let token = log_in(&mut auth, "root", "root-pw").await.expect("it");
    port.fake
        .set(|state| state.jwt = Some((of_p256(false), TTL)));
    put(&port, &token).await.expect("it verifies");
    let refused = log_in(&mut auth, "root", "root-pw").await;
    let text = "auth: token signing attempted with verify-only key";
    assert_eq!(refused.expect_err("no key").message(), text);
    let other = keys("HS256", None, Some("s"));
    port.fake.set(|state| state.jwt = Some((other, TTL)));
    let refused = put(&port, &token).await.expect_err("of another key");
    assert_eq!(refused.code(), Code::Unauthenticated);
}
