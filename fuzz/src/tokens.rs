//! Tokens: the cluster's own and JWT. What is signed is read the same; no token with a changed
//! character is valid, and none that was not signed.

use std::sync::OnceLock;
use std::time::Duration;

use keelson_edge::fuzzing::{cluster_token, jwt, jwt_of_parts, name_of_cluster_token, name_of_jwt};
use keelson_edge::{JwtHash, JwtKeys, JwtMethod};
use serde_json::Value;

const SECRET: &[u8] = b"the cluster's key";

/// Of this target alone.
const ED25519: &[u8] = b"-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIM6xTgG0ztv4W+JcwVbDMWEjHm3/0LkFlah3qh/PTf/x
-----END PRIVATE KEY-----
";

/// The time of all checks, since 1970, and the end of the tokens.
const NOW: Duration = Duration::from_secs(1_000);
const END: Duration = Duration::from_secs(2_000);

fn keys() -> &'static [JwtKeys; 2] {
    static KEYS: OnceLock<[JwtKeys; 2]> = OnceLock::new();
    let of = |method, key| JwtKeys::new(method, None, Some(key)).expect("a key of the method");
    KEYS.get_or_init(|| {
        [
            of(JwtMethod::Hs(JwtHash::Sha256), SECRET),
            of(JwtMethod::EdDsa, ED25519),
        ]
    })
}

/// The target. Three bytes choose the change; the rest is a name, a token, or header and claims.
pub fn run(bytes: &[u8]) {
    let Some(([place, further, character], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let changed = |token: &str| {
        let at = usize::from(*place) * 256 + usize::from(*further);
        change(token, at, *character)
    };
    // Longer tokens are not read.
    let name: String = text.chars().take(60).collect();
    let token = cluster_token(&name, SECRET);
    assert_eq!(
        name_of_cluster_token(&token, SECRET).as_deref(),
        Some(&name[..])
    );
    assert_eq!(name_of_cluster_token(&token, b"another"), None);
    if let Some(changed) = changed(&token) {
        assert_eq!(name_of_cluster_token(&changed, SECRET), None, "{changed}");
    }
    assert_eq!(
        name_of_cluster_token(&text, SECRET),
        None,
        "it was not signed"
    );
    for keys in keys() {
        let token = jwt(keys, &name, END).expect("a private key");
        assert_eq!(name_of_jwt(keys, &token, NOW).as_deref(), Some(&name[..]));
        assert_eq!(name_of_jwt(keys, &token, END), None, "it has ended");
        if let Some(changed) = changed(&token) {
            assert_eq!(name_of_jwt(keys, &changed, NOW), None, "{changed}");
        }
        assert_eq!(name_of_jwt(keys, &text, NOW), None, "it was not signed");
    }
    let [one, other] = keys();
    let token = jwt(one, &name, END).expect("a private key");
    assert_eq!(name_of_jwt(other, &token, NOW), None, "another method");
    signed_parts(rest);
}

/// Any header and claims, with a signature that is valid.
fn signed_parts(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n');
    let (header, claims) = bytes.split_at(at.unwrap_or(bytes.len() / 2));
    let [keys, _] = keys();
    let token = jwt_of_parts(keys, header, claims).expect("a private key");
    let Some(name) = name_of_jwt(keys, &token, NOW) else {
        return;
    };
    let read = |part| serde_json::from_slice::<Value>(part).expect("it was read");
    let (header, claims) = (read(header), read(claims));
    assert_eq!(header["alg"], "HS256");
    assert_eq!(claims["username"], name);
    assert!(claims["revision"].as_f64().is_some_and(|it| 0.0 <= it));
    let ends = claims.get("exp").map(|end| end.as_f64());
    assert!(ends.is_none_or(|end| end.is_some_and(|end| NOW.as_secs_f64() < end)));
}

/// The token with another character there; `None` if it is the same one.
fn change(token: &str, at: usize, character: u8) -> Option<String> {
    let mut changed = token.to_owned().into_bytes();
    let at = at % changed.len();
    let new = b'!' + character % 94;
    if std::mem::replace(&mut changed[at], new) == new {
        return None;
    }
    String::from_utf8(changed).ok()
}
