//! Passwords: bcrypt on separate threads, and a cache of verified passwords.

use std::collections::VecDeque;

use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::Semaphore;
use tokio::task;

/// Go's `bcrypt.DefaultCost`: about 50 ms.
const COST: u32 = 10;

/// The most hashes that are computed at a time; others wait.
const AT_A_TIME: usize = 2;

/// The number of passwords in the cache.
const REMEMBERED: usize = 256;

type Proof = [u8; 32];

/// Verifies and hashes passwords.
pub(crate) struct Passwords {
    cost: u32,
    permits: Semaphore,
    verified: Mutex<VecDeque<Proof>>,
    /// A random key of this process, so that cached proofs are useless elsewhere.
    key: hmac::Key,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords::with_cost(COST)
    }
}

impl Passwords {
    /// New hashes have this cost, bcrypt's logarithm of the rounds.
    pub(crate) fn with_cost(cost: u32) -> Passwords {
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random);
        Passwords {
            cost,
            permits: Semaphore::new(AT_A_TIME),
            verified: Mutex::default(),
            key: key.expect("the system has randomness"),
        }
    }

    /// Whether the password matches the hash.
    pub(crate) async fn check(&self, hash: &str, password: &str) -> bool {
        let proof = self.proof(hash, password);
        if self.verified.lock().contains(&proof) {
            return true;
        }
        let (hash, password) = (hash.to_owned(), password.to_owned());
        let checked = self.run(move || bcrypt::verify(password, &hash)).await;
        let is_valid = checked.is_some_and(|checked| checked.unwrap_or(false));
        if is_valid {
            let mut verified = self.verified.lock();
            verified.truncate(REMEMBERED - 1);
            verified.push_front(proof);
        }
        is_valid
    }

    /// The hash of a new password in etcd's format. `None` if it cannot be hashed.
    pub(crate) async fn hash(&self, password: &str) -> Option<String> {
        let password = password.to_owned();
        let cost = self.cost;
        let hash = move || bcrypt::hash_with_result(password, cost);
        let hash = self.run(hash).await?.ok()?;
        Some(hash.format_for_version(bcrypt::Version::TwoA))
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _permit = self.permits.acquire().await.ok()?;
        task::spawn_blocking(work).await.ok()
    }

    fn proof(&self, hash: &str, password: &str) -> Proof {
        let mut proof = hmac::Context::with_key(&self.key);
        // A hash has a fixed length.
        proof.update(hash.as_bytes());
        proof.update(password.as_bytes());
        let tag = proof.sign();
        let mut proof = Proof::default();
        proof.copy_from_slice(tag.as_ref());
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_passwords_are_remembered_and_wrong_ones_are_not() {
        let passwords = Passwords::default();
        let hash = passwords.hash("pw").await.unwrap();
        assert!(hash.starts_with("$2a$10$"), "{hash}");
        for _ in 0..2 {
            assert!(passwords.check(&hash, "pw").await);
            assert!(!passwords.check(&hash, "pw2").await);
        }
        assert_eq!(passwords.verified.lock().len(), 1);
        assert!(!passwords.check("no hash", "pw").await);
    }

    /// The hashes were recorded from etcd 3.4.23.
    #[tokio::test]
    async fn etcds_hashes_are_understood() {
        let passwords = Passwords::default();
        let hash = "$2a$10$PwPd3zjtoYg28WGP2xzIaOIBIHW6k8mloTkgMGCLbfOBjuW46o0nS";
        assert!(passwords.check(hash, "jp").await);
    }
}
