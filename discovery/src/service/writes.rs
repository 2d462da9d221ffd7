//! Writes below tokens: one at a time for each token, within its limits and the total.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::metrics::Limit;
use super::registry::{Body, Registry, RegistryError};
use super::tokens::{TOKEN_MAX, TokenDirectory, TokenError, Tokens};

/// Locks that tokens are hashed to; two tokens with the same lock wait for each other.
const TOKEN_LOCKS: usize = 256;

/// The result of a write.
pub(super) enum WriteOutcome {
    /// The registry's answer.
    Answer(Response<Body>),
    /// The token has reached this limit.
    Full(Limit),
    /// There is no room until this time has passed.
    Later(Duration),
}

/// Forwards writes below tokens to the registry.
pub(super) struct Writes<R> {
    tokens: Tokens<R>,
    locks: TokenLocks,
    total: Arc<StorageBudget>,
    entries_max: usize,
}

impl<R: Registry> Writes<R> {
    pub(super) fn new(
        tokens: Tokens<R>,
        total: Arc<StorageBudget>,
        entries_max: usize,
    ) -> Writes<R> {
        Writes {
            tokens,
            locks: TokenLocks::default(),
            total,
            entries_max,
        }
    }

    /// Forwards a request if the token has room for `grows` bytes and one more entry. A client that
    /// leaves does not cancel it: the next write must see the entry of this one.
    pub(super) async fn write(
        &self,
        token: &str,
        grows: usize,
        request: Request<Bytes>,
    ) -> Result<WriteOutcome, TokenError> {
        let turn = self.locks.of(token);
        let (tokens, total) = (self.tokens.clone(), Arc::clone(&self.total));
        let (token, entries_max) = (token.to_owned(), self.entries_max);
        let writing = tokio::spawn(async move {
            let waited = timeout(tokens.timeout, turn.acquire_owned()).await;
            let slow = |_| RegistryError::Timeout(tokens.timeout);
            let _turn = waited.map_err(slow)?.map_err(stopped)?;
            match tokens.look(&token).await? {
                TokenDirectory::Entries(count, _) if entries_max <= count => {
                    return Ok(WriteOutcome::Full(Limit::Entries));
                }
                TokenDirectory::Entries(_, bytes) if TOKEN_MAX < bytes + grows => {
                    return Ok(WriteOutcome::Full(Limit::Size));
                }
                TokenDirectory::Entries(..) => {}
                TokenDirectory::Refused(answer) => return Ok(WriteOutcome::Answer(answer)),
            }
            if let Err(wait) = total.take(grows, Instant::now()) {
                return Ok(WriteOutcome::Later(wait));
            }
            let answer = tokens.call(request).await?;
            if !matches!(answer.status(), StatusCode::OK | StatusCode::CREATED) {
                total.give_back(grows);
            }
            Ok(WriteOutcome::Answer(answer))
        });
        writing.await.map_err(stopped)?
    }
}

fn stopped(error: impl std::fmt::Display) -> TokenError {
    TokenError::Registry(RegistryError::Stopped(error.to_string()))
}

/// Locks by token.
struct TokenLocks {
    /// Randomly seeded, so that clients cannot choose tokens that share a lock with another's.
    hasher: RandomState,
    locks: [Arc<Semaphore>; TOKEN_LOCKS],
}

impl Default for TokenLocks {
    fn default() -> TokenLocks {
        TokenLocks {
            hasher: RandomState::new(),
            locks: std::array::from_fn(|_| Arc::new(Semaphore::new(1))),
        }
    }
}

impl TokenLocks {
    fn of(&self, token: &str) -> Arc<Semaphore> {
        let hash = self.hasher.hash_one(token);
        Arc::clone(&self.locks[(hash % TOKEN_LOCKS as u64) as usize])
    }
}

/// Bytes that all addresses may write to all tokens together. The bucket refills within a token's
/// life, so that one process has never stored more than twice its size. What an earlier process
/// stored is not counted.
#[derive(Debug)]
pub(super) struct StorageBudget {
    max: u64,
    life: Duration,
    /// When the bucket will be full again.
    full_at: Mutex<Instant>,
}

impl StorageBudget {
    pub(super) fn new(max: u64, life: Duration, now: Instant) -> StorageBudget {
        StorageBudget {
            max: max.max(1),
            life,
            full_at: Mutex::new(now),
        }
    }

    /// Takes bytes. The error is the time until so many are available.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock();
        let taken = (*full_at).max(now) + self.time_of(bytes);
        let excess = taken
            .saturating_duration_since(now)
            .saturating_sub(self.life);
        if !excess.is_zero() {
            return Err(excess);
        }
        *full_at = taken;
        Ok(())
    }

    /// Returns bytes that were taken and not written.
    pub(super) fn give_back(&self, bytes: usize) {
        let mut full_at = self.full_at.lock();
        if let Some(before) = full_at.checked_sub(self.time_of(bytes)) {
            *full_at = before;
        }
    }

    /// The time in which so many bytes come back.
    fn time_of(&self, bytes: usize) -> Duration {
        let nanos = self.life.as_nanos() * bytes as u128 / u128::from(self.max);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_run_out_and_come_back_within_a_tokens_life() {
        let start = Instant::now();
        let life = Duration::from_secs(100);
        let total = StorageBudget::new(1000, life, start);
        assert_eq!(total.take(600, start), Ok(()));
        assert_eq!(total.take(600, start), Err(Duration::from_secs(20)));
        assert_eq!(total.take(400, start), Ok(()));
        assert_eq!(total.take(1, start), Err(Duration::from_millis(100)));
        total.give_back(400);
        assert_eq!(total.take(400, start), Ok(()));
        assert_eq!(total.take(1000, start + life), Ok(()));
        assert!(total.take(1001, start + 2 * life).is_err());
    }
}
