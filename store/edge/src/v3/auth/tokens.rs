//! Tokens of logged-in users.
//!
//! A token states its user, and is signed with a key that all members have from the state: a login
//! costs no entry in the log, and the token is valid at each member, also after a restart. etcd's
//! simple tokens are in every member's memory, and a login is an entry. As there, a token ends when
//! it was not used for `--auth-token-ttl`: each member records the uses that it has seen, and a
//! token that a member has not seen counts from its login. Before it refuses one that has ended so,
//! it queries the other members: a client may have used it at one of them alone.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use keelson_core::state::auth::Caller;
use parking_lot::Mutex;
use ring::hmac;

/// The size of a token's three numbers, in bytes.
const NUMBERS: usize = 3 * size_of::<u64>();
/// The size of a signature, in bytes: SHA-256's.
const SIGNATURE: usize = 32;

/// The signature of a token. It identifies the token, and gives no access by itself.
pub type TokenSignature = [u8; SIGNATURE];
/// The longest token that is decoded: names have at most 256 bytes.
const TOKEN_BYTES_MAX: usize = 512;

/// The most tokens whose last use is recorded. A further one ends at its age.
const SEEN_MAX: usize = 50_000;

/// The pause between two removals of ended tokens.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// The age by which a token may be in the future: members' clocks differ.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// What a token states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The user.
    pub(crate) name: String,
    /// `User::since` at the login.
    pub(crate) since: u64,
    /// The index that the member had applied at the login: another member must have applied it too.
    pub(crate) applied: u64,
    /// The time of the login, since 1970.
    pub(crate) issued: Duration,
}

impl Claims {
    pub(super) fn caller(self) -> Caller {
        Caller::User {
            name: self.name,
            since: self.since,
        }
    }

    /// The token, signed with the cluster's key.
    pub(crate) fn signed(&self, secret: &[u8]) -> String {
        let issued = u64::try_from(self.issued.as_nanos()).unwrap_or(u64::MAX);
        let mut token: Vec<u8> = [issued, self.since, self.applied]
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        token.extend_from_slice(self.name.as_bytes());
        let signature = hmac::sign(&key(secret), &token);
        token.extend_from_slice(signature.as_ref());
        BASE64.encode(token)
    }

    /// The claims of a token, if the cluster has signed it.
    pub(crate) fn verified(token: &str, secret: &[u8]) -> Option<Claims> {
        if secret.is_empty() {
            return None;
        }
        let (claims, signed) = parts(token)?;
        hmac::verify(&key(secret), &claims, &signed).ok()?;
        Claims::decoded(&claims)
    }

    /// The claims of a token, without a check of its signature.
    pub(super) fn unverified(token: &str) -> Option<Claims> {
        Claims::decoded(&parts(token)?.0)
    }

    fn decoded(claims: &[u8]) -> Option<Claims> {
        let (numbers, name) = claims.split_at_checked(NUMBERS)?;
        let mut numbers = numbers.chunks_exact(size_of::<u64>());
        let mut number = || Some(u64::from_be_bytes(numbers.next()?.try_into().ok()?));
        Some(Claims {
            issued: Duration::from_nanos(number()?),
            since: number()?,
            applied: number()?,
            name: String::from_utf8(name.to_vec()).ok()?,
        })
    }
}

/// The claims of a token and their signature.
fn parts(token: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    if TOKEN_BYTES_MAX < token.len() {
        return None;
    }
    let mut claims = BASE64.decode(token).ok()?;
    let signed = claims.split_off(claims.len().checked_sub(SIGNATURE)?);
    Some((claims, signed))
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// The signature of a token.
pub(super) fn signature(token: &str) -> Option<TokenSignature> {
    let decoded = BASE64.decode(token).ok()?;
    decoded.last_chunk().copied()
}

/// The tokens that this member has seen.
#[derive(Debug, Default)]
pub struct SeenTokens(Mutex<TokenUses>);

#[derive(Debug, Default)]
struct TokenUses {
    /// When each was used last, since 1970.
    last: HashMap<TokenSignature, Duration>,
    /// When the ended ones were last removed, since 1970.
    swept: Duration,
}

impl SeenTokens {
    /// When this member has seen a use of a token last, since 1970.
    pub fn last_use(&self, token: &TokenSignature) -> Option<Duration> {
        self.0.lock().last.get(token).copied()
    }

    /// Records a use of a verified token at the time `now`. Returns false if the token has ended:
    /// neither issued nor used within `ttl`.
    pub(super) fn uses(&self, token: &str, issued: Duration, now: Duration, ttl: Duration) -> bool {
        let Some(key) = signature(token) else {
            return false;
        };
        let mut uses = self.0.lock();
        let TokenUses { last: uses, swept } = &mut *uses;
        let last = uses.get(&key).copied().unwrap_or(issued);
        if now + AHEAD_MAX < last || last.saturating_add(ttl) < now {
            uses.remove(&key);
            return false;
        }
        let is_known = uses.contains_key(&key);
        // All are looked at: not for each request while they are many.
        if SEEN_MAX <= uses.len() && !is_known && *swept + SWEEP_PAUSE <= now {
            *swept = now;
            uses.retain(|_, used| now <= used.saturating_add(ttl));
        }
        if uses.len() < SEEN_MAX || is_known {
            uses.insert(key, now.max(last));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(issued: u64) -> Claims {
        Claims {
            name: "alice".to_owned(),
            since: 7,
            applied: 9,
            issued: Duration::from_secs(issued),
        }
    }

    #[test]
    fn a_token_states_what_was_signed() {
        let token = claims(1_000).signed(b"secret");
        assert_eq!(Claims::verified(&token, b"secret"), Some(claims(1_000)));
        assert_eq!(Claims::verified(&token, b"other"), None);
        assert_eq!(Claims::verified(&token, b""), None);
        let unsigned = claims(1_000).signed(b"");
        assert_eq!(
            Claims::verified(&unsigned, b""),
            None,
            "auth was never enabled"
        );
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(Claims::verified(&changed, b"secret"), None, "{at}");
        }
        for short in ["", "A", "AAAA", &token[..20], &token[..token.len() - 1]] {
            assert_eq!(Claims::verified(short, b"secret"), None);
        }
        assert_eq!(Claims::verified(&"A".repeat(600), b"secret"), None);
    }

    #[test]
    fn a_token_ends_when_it_was_not_used_for_its_time() {
        let ttl = Duration::from_secs(300);
        let tokens = SeenTokens::default();
        let token = claims(1_000).signed(b"secret");
        let used = |now| {
            let issued = Duration::from_secs(1_000);
            tokens.uses(&token, issued, Duration::from_secs(now), ttl)
        };
        assert!(used(1_299) && used(1_500) && used(1_800));
        assert!(!used(2_101));
        assert!(!used(2_101), "and it does not begin again");
        // A member that has not seen it counts from the login.
        let other = SeenTokens::default();
        let issued = Duration::from_secs(1_000);
        assert!(other.uses(&token, issued, Duration::from_secs(1_300), ttl));
        assert!(!other.uses(&token, issued, Duration::from_secs(699), ttl));
        let third = SeenTokens::default();
        assert!(!third.uses(&token, issued, Duration::from_secs(1_301), ttl));
    }

    #[test]
    fn the_record_of_tokens_is_bounded() {
        let ttl = Duration::from_secs(10);
        let tokens = SeenTokens::default();
        let now = Duration::from_secs(1_000);
        for number in 0..SEEN_MAX as u64 + 10 {
            let of = Claims {
                since: number,
                ..claims(1_000)
            };
            assert!(tokens.uses(&of.signed(b"s"), of.issued, now, ttl));
        }
        assert_eq!(tokens.0.lock().last.len(), SEEN_MAX);
        let later = claims(1_011).signed(b"s");
        assert!(tokens.uses(
            &later,
            Duration::from_secs(1_011),
            Duration::from_secs(1_011),
            ttl
        ));
        assert_eq!(
            tokens.0.lock().last.len(),
            1,
            "those that have ended are forgotten"
        );
    }
}
