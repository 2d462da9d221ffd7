//! Writes below tokens: for each token one at a time, within its limits and those of all together.

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
use super::tokens::{Found, TOKEN_MAX, TokenError, Tokens};

/// Tokens share so many turns; two that share one wait for each other.
const TURNS: usize = 256;

/// What became of a write.
pub(super) enum Written {
    /// The registry's answer.
    Answer(Response<Body>),
    /// The token has as much as it may have.
    Full(Limit),
    /// There is no room for so long.
    Later(Duration),
}

/// The way to the registry for what writes below tokens.
pub(super) struct Writes<R> {
    tokens: Tokens<R>,
    turns: Turns,
    total: Arc<Total>,
    entries_max: usize,
}

impl<R: Registry> Writes<R> {
    pub(super) fn new(tokens: Tokens<R>, total: Arc<Total>, entries_max: usize) -> Writes<R> {
        Writes {
            tokens,
            turns: Turns::default(),
            total,
            entries_max,
        }
    }

    /// Sends a request on if the token has room for `grows` bytes and one more entry. A client that
    /// leaves does not end it: the next look must find what this one has written.
    pub(super) async fn write(
        &self,
        token: &str,
        grows: usize,
        request: Request<Bytes>,
    ) -> Result<Written, TokenError> {
        let turn = self.turns.of(token);
        let (tokens, total) = (self.tokens.clone(), Arc::clone(&self.total));
        let (token, entries_max) = (token.to_owned(), self.entries_max);
        let writing = tokio::spawn(async move {
            let waited = timeout(tokens.timeout, turn.acquire_owned()).await;
            let slow = |_| RegistryError::Timeout(tokens.timeout);
            let _turn = waited.map_err(slow)?.map_err(stopped)?;
            match tokens.look(&token).await? {
                Found::Entries(count, _) if entries_max <= count => {
                    return Ok(Written::Full(Limit::Entries));
                }
                Found::Entries(_, bytes) if TOKEN_MAX < bytes + grows => {
                    return Ok(Written::Full(Limit::Size));
                }
                Found::Entries(..) => {}
                Found::Refused(answer) => return Ok(Written::Answer(answer)),
            }
            if let Err(wait) = total.take(grows, Instant::now()) {
                return Ok(Written::Later(wait));
            }
            let answer = tokens.call(request).await?;
            if !matches!(answer.status(), StatusCode::OK | StatusCode::CREATED) {
                total.give_back(grows);
            }
            Ok(Written::Answer(answer))
        });
        writing.await.map_err(stopped)?
    }
}

fn stopped(error: impl std::fmt::Display) -> TokenError {
    TokenError::Registry(RegistryError::Stopped(error.to_string()))
}

/// Turns of tokens.
struct Turns {
    /// Clients cannot choose tokens that share a turn with another's.
    hasher: RandomState,
    turns: [Arc<Semaphore>; TURNS],
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            hasher: RandomState::new(),
            turns: std::array::from_fn(|_| Arc::new(Semaphore::new(1))),
        }
    }
}

impl Turns {
    fn of(&self, token: &str) -> Arc<Semaphore> {
        let hash = self.hasher.hash_one(token);
        Arc::clone(&self.turns[(hash % TURNS as u64) as usize])
    }
}

/// Bytes that may be written for all addresses and tokens together: a bucket that fills again
/// within a token's life, so that one process has never stored more than twice its size. What an
/// earlier process has stored does not count.
#[derive(Debug)]
pub(super) struct Total {
    max: u64,
    life: Duration,
    /// When it will be full again.
    full_at: Mutex<Instant>,
}

impl Total {
    pub(super) fn new(max: u64, life: Duration, now: Instant) -> Total {
        Total {
            max: max.max(1),
            life,
            full_at: Mutex::new(now),
        }
    }

    /// Takes bytes. The error is the time until so many are there.
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

    /// What was taken was not written.
    pub(super) fn give_back(&self, bytes: usize) {
        let mut full_at = self.full_at.lock();
        if let Some(before) = full_at.checked_sub(self.time_of(bytes)) {
            *full_at = before;
        }
    }

    /// How long it takes to have so many bytes again.
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
        let total = Total::new(1000, life, start);
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
