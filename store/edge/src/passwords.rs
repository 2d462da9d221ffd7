//! Passwords: bcrypt on separate threads, and a cache of verified passwords.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use ring::hmac;
use tokio::task;

use self::verified::{Proof, VerifiedPasswords};
use crate::Error;
use crate::account::client;
use crate::turns::{Account, TurnLimits, Turns};

mod verified;

/// Go's `bcrypt.DefaultCost`: about 50 ms.
const COST: u32 = 10;

/// The hashes that are computed at a time. Others wait, and connections take turns: wrong passwords
/// of one do not delay the logins of another. Of one connection 256 may wait; at the default cost
/// the last of them would wait for about 6 seconds.
const LIMITS: TurnLimits = TurnLimits {
    in_work: 2,
    of_one: 2,
    waiting: 768,
};

/// A verification of a password.
type Verification = BoxFuture<'static, Result<bool, Error>>;

/// A verification that requests with the same password and hash share.
type Flight = Shared<Verification>;

/// Verifies and hashes passwords.
pub(crate) struct Passwords {
    cost: u32,
    hashing: Arc<Hashing>,
    /// The verifications that are under way; as many as requests wait for.
    flights: Mutex<Vec<(Proof, WeakShared<Verification>)>>,
    /// A random key of this process, so that cached proofs are useless elsewhere.
    key: hmac::Key,
}

/// What a verification needs.
struct Hashing {
    turns: Arc<Turns>,
    verified: VerifiedPasswords,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords::with_cost(COST)
    }
}

impl Passwords {
    /// New hashes have this cost, bcrypt's logarithm of the rounds.
    pub(crate) fn with_cost(cost: u32) -> Passwords {
        Passwords::within(cost, LIMITS)
    }

    fn within(cost: u32, limits: TurnLimits) -> Passwords {
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random);
        let hashing = Hashing {
            turns: Turns::new(limits),
            verified: VerifiedPasswords::default(),
        };
        Passwords {
            cost,
            hashing: Arc::new(hashing),
            flights: Mutex::default(),
            key: key.expect("the system has randomness"),
        }
    }

    /// Those of an API with too many logins.
    #[cfg(test)]
    pub(crate) fn crowded() -> Passwords {
        let limits = TurnLimits {
            in_work: 0,
            of_one: 0,
            waiting: 0,
        };
        Passwords::within(COST, limits)
    }

    /// Whether the password matches the hash. As in Go's bcrypt, bytes after the 72nd do not count.
    /// Requests that come together with the same password cost one hash.
    ///
    /// # Errors
    /// `TooManyRequests`.
    pub(crate) async fn check(&self, hash: &str, password: &str) -> Result<bool, Error> {
        let proof = self.proof(hash, password);
        if self.hashing.verified.uses(&proof) {
            return Ok(true);
        }
        let verify = || {
            let (hash, password) = (hash.to_owned(), password.to_owned());
            Arc::clone(&self.hashing).verify(proof, hash, password)
        };
        let (flight, is_own) = self.flight(proof, verify);
        match flight.await {
            // The connection that began it has too many; this one has its own turns.
            Err(Error::TooManyRequests) if !is_own => verify().await,
            outcome => outcome,
        }
    }

    /// The verification of this password that is under way, or a new one.
    fn flight<F>(&self, proof: Proof, verify: impl FnOnce() -> F) -> (Flight, bool)
    where
        F: Future<Output = Result<bool, Error>> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        // Those that have ended, or whose requests have all gone.
        flights.retain(|(_, flight)| flight.upgrade().is_some_and(|it| it.peek().is_none()));
        let found = flights.iter().find(|(of, _)| *of == proof);
        if let Some(flight) = found.and_then(|(_, flight)| flight.upgrade()) {
            return (flight, false);
        }
        let flight = verify().boxed().shared();
        flights.extend(flight.downgrade().map(|weak| (proof, weak)));
        (flight, true)
    }

    /// The hash of a new password in etcd's format.
    ///
    /// # Errors
    /// `TooManyRequests`; `Internal`, if it cannot be hashed.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Error> {
        let password = password.to_owned();
        let cost = self.cost;
        let hash = move || bcrypt::hash_with_result(password, cost);
        let hash = self.hashing.run(hash).await?.map_err(|_| failed())?;
        Ok(hash.format_for_version(bcrypt::Version::TwoA))
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

impl Hashing {
    async fn verify(
        self: Arc<Hashing>,
        proof: Proof,
        hash: String,
        password: String,
    ) -> Result<bool, Error> {
        let checked = self.run(move || bcrypt::verify(password, &hash)).await?;
        let is_valid = checked.unwrap_or(false);
        if is_valid {
            self.verified.add(proof);
        }
        Ok(is_valid)
    }

    /// Runs the work on a thread for it. The work holds the turn: it goes on when its request is
    /// cancelled, and another one must not begin beside it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.turns.turn(Account::Connection(client())).await?;
        let done = task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| failed())
    }
}

fn failed() -> Error {
    Error::Internal("bcrypt failed".to_owned())
}

#[cfg(test)]
mod tests;
