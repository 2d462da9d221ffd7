//! Passwords: bcrypt on separate threads, and a cache of verified passwords.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::hmac;
use tokio::task;
use tokio::time::Instant;

use crate::Error;
use crate::account::client;
use crate::turns::{Account, TurnLimits, Turns};

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

/// The number of passwords in the cache.
const REMEMBERED: usize = 256;

/// How long a verified password is in the cache.
const REMEMBERED_FOR: Duration = Duration::from_secs(5 * 60);

type Proof = [u8; 32];

/// A proof of a verified password, and when it was verified by bcrypt.
type Verified = (Proof, Instant);

/// Verifies and hashes passwords.
pub(crate) struct Passwords {
    cost: u32,
    turns: Arc<Turns>,
    /// The newest first.
    verified: Mutex<VecDeque<Verified>>,
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
            turns: Turns::new(LIMITS),
            verified: Mutex::default(),
            key: key.expect("the system has randomness"),
        }
    }

    /// Whether the password matches the hash. As in Go's bcrypt, bytes after the 72nd do not count.
    ///
    /// # Errors
    /// `TooManyRequests`.
    pub(crate) async fn check(&self, hash: &str, password: &str) -> Result<bool, Error> {
        let proof = self.proof(hash, password);
        if self.is_remembered(&proof) {
            return Ok(true);
        }
        let (hash, password) = (hash.to_owned(), password.to_owned());
        let checked = self.run(move || bcrypt::verify(password, &hash)).await?;
        let is_valid = checked.unwrap_or(false);
        if is_valid {
            let mut verified = self.verified.lock();
            verified.retain(|(other, _)| *other != proof);
            verified.truncate(REMEMBERED - 1);
            verified.push_front((proof, Instant::now()));
        }
        Ok(is_valid)
    }

    fn is_remembered(&self, proof: &Proof) -> bool {
        let mut verified = self.verified.lock();
        verified.retain(|(_, since)| since.elapsed() < REMEMBERED_FOR);
        verified.iter().any(|(known, _)| known == proof)
    }

    /// The hash of a new password in etcd's format.
    ///
    /// # Errors
    /// `TooManyRequests`; `Internal`, if it cannot be hashed.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Error> {
        let password = password.to_owned();
        let cost = self.cost;
        let hash = move || bcrypt::hash_with_result(password, cost);
        let hash = self.run(hash).await?.map_err(|_| failed())?;
        Ok(hash.format_for_version(bcrypt::Version::TwoA))
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

fn failed() -> Error {
    Error::Internal("bcrypt failed".to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::net::SocketAddr;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::account::on_behalf_of;

    #[tokio::test]
    async fn right_passwords_are_remembered_and_wrong_ones_are_not() {
        let passwords = Passwords::default();
        let hash = passwords.hash("pw").await.unwrap();
        assert!(hash.starts_with("$2a$10$"), "{hash}");
        for _ in 0..2 {
            assert!(passwords.check(&hash, "pw").await.unwrap());
            assert!(!passwords.check(&hash, "pw2").await.unwrap());
        }
        assert_eq!(passwords.verified.lock().len(), 1);
        assert!(!passwords.check("no hash", "pw").await.unwrap());
    }

    /// The hashes were recorded from etcd 3.4.23.
    #[tokio::test]
    async fn etcds_hashes_are_understood() {
        let passwords = Passwords::default();
        let hash = "$2a$10$PwPd3zjtoYg28WGP2xzIaOIBIHW6k8mloTkgMGCLbfOBjuW46o0nS";
        assert!(passwords.check(hash, "jp").await.unwrap());
    }

    /// etcd 3.4.23 verifies so; the rest of a longer password has no effect.
    #[tokio::test]
    async fn bytes_after_the_72nd_do_not_count() {
        let passwords = Passwords::with_cost(4);
        let long = "x".repeat(72);
        let hash = passwords.hash(&long).await.unwrap();
        for (password, matches) in [
            (format!("{long}y"), true),
            // The first byte of the last character is the 72nd.
            (format!("{}é", "x".repeat(71)), false),
            ("x".repeat(71), false),
            (format!("x\0{}", "x".repeat(70)), false),
            (String::new(), false),
        ] {
            assert_eq!(passwords.check(&hash, &password).await, Ok(matches));
        }
        let split = format!("{}é", "x".repeat(71));
        let hash = passwords.hash(&split).await.unwrap();
        assert_eq!(passwords.check(&hash, &split).await, Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verified_password_is_forgotten_after_five_minutes() {
        let passwords = Passwords::with_cost(4);
        let hash = passwords.hash("pw").await.unwrap();
        assert!(passwords.check(&hash, "pw").await.unwrap());
        let proof = passwords.proof(&hash, "pw");
        tokio::time::advance(REMEMBERED_FOR - Duration::from_secs(1)).await;
        assert!(passwords.is_remembered(&proof));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!passwords.is_remembered(&proof));
        assert!(passwords.verified.lock().is_empty());
    }

    /// Clients that leave must not make more hashes run at a time.
    #[tokio::test]
    async fn a_cancelled_request_keeps_its_turn_until_its_work_is_done() {
        let passwords = Passwords::default();
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..LIMITS.in_work {
            let (begun, held) = (begun.clone(), Arc::clone(&held));
            let work = passwords.run(move || {
                let _ = begun.send(());
                let _ = held.lock().recv();
            });
            tokio::select! {
                biased;
                _ = work => panic!("it is held"),
                _ = begins.recv() => {}
            }
        }
        assert_eq!(passwords.turns.in_work(), LIMITS.in_work);
        {
            let mut waiting: Vec<_> = (0..256).map(|_| Box::pin(passwords.run(|| ()))).collect();
            for work in &mut waiting {
                assert!(work.now_or_never().is_none());
            }
            assert_eq!(passwords.run(|| ()).await, Err(Error::TooManyRequests));
        }
        for _ in 0..LIMITS.in_work {
            release.send(()).unwrap();
        }
        assert_eq!(passwords.run(|| ()).await, Ok(()));
    }

    /// The other client's login waited for all of them.
    #[tokio::test]
    async fn wrong_passwords_of_one_connection_do_not_hold_up_anothers_login() {
        let passwords = Arc::new(Passwords::with_cost(4));
        let right = passwords.hash("pw").await.unwrap();
        // Each takes a long time.
        let slow = bcrypt::hash("x", 8).unwrap();
        let crowd: Vec<_> = (0..60)
            .map(|number| {
                let (passwords, slow) = (Arc::clone(&passwords), slow.clone());
                tokio::spawn(of(1, async move {
                    passwords.check(&slow, &format!("wrong {number}")).await
                }))
            })
            .collect();
        let all_wait = async {
            while passwords.turns.waiting() < 58 {
                task::yield_now().await;
            }
        };
        crate::tests::within(all_wait).await;
        let login = of(2, async { passwords.check(&right, "pw").await });
        assert!(crate::tests::within(login).await.unwrap());
        assert!(
            40 < passwords.turns.waiting(),
            "few of the others had their turn"
        );
        for login in crowd {
            login.abort();
        }
    }

    /// Polls the future on behalf of a client with that port.
    async fn of<T>(port: u16, login: impl Future<Output = T>) -> T {
        let client = SocketAddr::from(([127, 0, 0, 1], port));
        let mut login = Box::pin(login);
        poll_fn(move |cx| on_behalf_of(client, || login.as_mut().poll(cx))).await
    }
}
