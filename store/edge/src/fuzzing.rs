//! For fuzz targets: tokens.

use std::time::Duration;

use crate::JwtKeys;
use crate::v3::auth::{Claims, JwtClaims};

/// A token of the cluster's own kind.
pub fn cluster_token(name: &str, secret: &[u8]) -> String {
    let claims = Claims {
        name: name.to_owned(),
        since: 1,
        applied: 2,
        issued: Duration::from_secs(3),
    };
    claims.signed(secret)
}

/// The user of such a token; `None` if it is not valid.
pub fn name_of_cluster_token(token: &str, secret: &[u8]) -> Option<String> {
    Claims::verified(token, secret).map(|claims| claims.name)
}

/// A JWT token that ends at that time, since 1970; `None` without a private key.
pub fn jwt(keys: &JwtKeys, name: &str, end: Duration) -> Option<String> {
    let username = name.to_owned();
    let revision = 1;
    keys.signed(&JwtClaims { username, revision }, end)
}

/// A signed token with any header and claims.
pub fn jwt_of_parts(keys: &JwtKeys, header: &[u8], claims: &[u8]) -> Option<String> {
    keys.signed_parts(header, claims)
}

/// The user of a JWT token at that time; `None` if it is not valid.
pub fn name_of_jwt(keys: &JwtKeys, token: &str, now: Duration) -> Option<String> {
    keys.verified(token, now).map(|claims| claims.username)
}
