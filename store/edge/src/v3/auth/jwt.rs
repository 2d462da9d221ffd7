//! JWT tokens, as etcd's (`--auth-token jwt`): signed with keys of the operator, so that other
//! programs can issue them and check them.
//!
//! The claims are etcd's: `username`, `revision` (of auth, at the login) and `exp`. In etcd every
//! change of users and roles ends every token (etcd#13300). Here a token ends at its time, and when
//! its user's password was changed, or the user was added again, after its revision: rights are
//! looked up at each request.
//!
//! The algorithm is the configured one: a token with another one in its header is refused before
//! its signature is looked at (RFC 8725, 3.1).

mod keys;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Serialize;
use serde_json::Value;

use self::keys::{Signer, Verifier};

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// An algorithm of RFC 7518, section 3.1, or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtMethod {
    /// HMAC, by the size of its hash in bits.
    Hs(JwtHash),
    /// RSASSA-PKCS1-v1_5.
    Rs(JwtHash),
    /// RSASSA-PSS.
    Ps(JwtHash),
    /// ECDSA with the curve of that size: P-256, P-384, P-521.
    Es(JwtHash),
    /// Ed25519.
    EdDsa,
}

/// SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl JwtMethod {
    /// The method of that name in `sign-method`.
    pub fn named(name: &str) -> Option<JwtMethod> {
        if name == "EdDSA" {
            return Some(JwtMethod::EdDsa);
        }
        let (family, bits) = name.split_at_checked(2)?;
        let hash = match bits {
            "256" => JwtHash::Sha256,
            "384" => JwtHash::Sha384,
            "512" => JwtHash::Sha512,
            _ => return None,
        };
        match family {
            "HS" => Some(JwtMethod::Hs(hash)),
            "RS" => Some(JwtMethod::Rs(hash)),
            "PS" => Some(JwtMethod::Ps(hash)),
            "ES" => Some(JwtMethod::Es(hash)),
            _ => None,
        }
    }

    /// Its name, as in the header of a token.
    pub fn name(self) -> String {
        let (family, hash) = match self {
            JwtMethod::EdDsa => return "EdDSA".to_owned(),
            JwtMethod::Hs(hash) => ("HS", hash),
            JwtMethod::Rs(hash) => ("RS", hash),
            JwtMethod::Ps(hash) => ("PS", hash),
            JwtMethod::Es(hash) => ("ES", hash),
        };
        let bits = match hash {
            JwtHash::Sha256 => 256,
            JwtHash::Sha384 => 384,
            JwtHash::Sha512 => 512,
        };
        format!("{family}{bits}")
    }
}

/// Keys that cannot be used. The first texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Neither key, or no private one with HMAC.
    #[error("auth: missing key data")]
    Missing,
    /// The two files are not each other's.
    #[error("auth: public and private keys don't match")]
    Mismatch,
    /// The file is no PEM, or its key is not one of the method.
    #[error("{0} is not a PEM file with a key for {1}")]
    NotOfMethod(&'static str, String),
}

/// What a token states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwtClaims {
    pub(crate) username: String,
    /// The revision of auth at the login.
    pub(crate) revision: u64,
}

/// The claims in the order of Go's maps.
#[derive(Serialize)]
struct SignedClaims<'a> {
    exp: u64,
    revision: u64,
    username: &'a str,
}

/// The keys with which tokens are signed and verified.
pub struct JwtKeys {
    method: JwtMethod,
    /// `None`: tokens are only verified.
    signer: Option<Signer>,
    verifier: Verifier,
}

impl std::fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keys for {}", self.method.name())
    }
}

impl JwtKeys {
    /// The keys in PEM files; for HMAC the bytes of the private one.
    ///
    /// # Errors
    /// A key is missing or of another kind, or the two do not belong together.
    pub fn new(
        method: JwtMethod,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
    ) -> Result<JwtKeys, JwtError> {
        let wrong = |which| JwtError::NotOfMethod(which, method.name());
        let signer = match private {
            Some(pem) => Some(Signer::new(method, pem).ok_or(wrong("priv-key"))?),
            None => None,
        };
        let given = match public {
            Some(pem) if !matches!(method, JwtMethod::Hs(_)) => {
                Some(keys::public_key(method, pem).ok_or(wrong("pub-key"))?)
            }
            _ => None,
        };
        let own = signer.as_ref().and_then(Signer::public_key);
        let public = match (given, own) {
            (Some(given), Some(own)) if given != own => return Err(JwtError::Mismatch),
            (given, own) => own.or(given),
        };
        let verifier = match (&signer, public) {
            (Some(Signer::Hmac(key)), _) => Verifier::Hmac(key.clone()),
            (_, Some(public)) => Verifier::new(method, public).ok_or(wrong("pub-key"))?,
            (_, None) => return Err(JwtError::Missing),
        };
        Ok(JwtKeys {
            method,
            signer,
            verifier,
        })
    }

    /// A token that ends at that time, since 1970. `None` without a private key.
    pub(crate) fn signed(&self, claims: &JwtClaims, end: Duration) -> Option<String> {
        let header = format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"}}", self.method.name());
        let claims = serde_json::to_vec(&SignedClaims {
            exp: end.as_secs(),
            revision: claims.revision,
            username: &claims.username,
        });
        self.signed_parts(header.as_bytes(), &claims.ok()?)
    }

    /// A token with this header and these claims. `None` without a private key.
    pub(crate) fn signed_parts(&self, header: &[u8], claims: &[u8]) -> Option<String> {
        let mut token = BASE64.encode(header);
        token.push('.');
        token += &BASE64.encode(claims);
        let signature = self.signer.as_ref()?.sign(token.as_bytes())?;
        token.push('.');
        token += &BASE64.encode(signature);
        Some(token)
    }

    /// The claims of a token that is valid at the time `now`, since 1970.
    pub(crate) fn verified(&self, token: &str, now: Duration) -> Option<JwtClaims> {
        if TOKEN_BYTES_MAX < token.len() {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header.get("alg")?.as_str()? != self.method.name() || header.get("crit").is_some() {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        self.verifier.verify(signed.as_bytes(), &signature)?;
        let claims: Value = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let now = now.as_secs_f64();
        // Both may be left out, as in Go.
        let is_live = time(&claims, "exp")?.is_none_or(|end| now < end)
            && time(&claims, "nbf")?.is_none_or(|begin| begin <= now);
        let revision = claims.get("revision")?;
        let username = claims.get("username")?.as_str()?;
        is_live.then_some(JwtClaims {
            username: username.to_owned(),
            revision: revision.as_u64().or_else(|| whole(revision.as_f64()?))?,
        })
    }
}

/// A time among the claims, in seconds since 1970. `None` if it is not a number.
fn time(claims: &Value, name: &str) -> Option<Option<f64>> {
    match claims.get(name) {
        None => Some(None),
        Some(value) => Some(Some(value.as_f64()?)),
    }
}

/// A number that another language has written as a fraction; `None` if it is negative.
fn whole(number: f64) -> Option<u64> {
    (0.0 <= number).then_some(number as u64)
}

#[cfg(test)]
mod tests;
