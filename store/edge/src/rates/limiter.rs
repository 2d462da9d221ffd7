//! Whose requests are over a limit, without a clock.

use std::net::SocketAddr;
use std::time::Duration;

use super::RateLimits;
use super::buckets::Buckets;

/// The most connections that are known at a time.
const CONNECTIONS_MAX: usize = 65_536;

/// The most users that are known at a time. Their names have 256 bytes at most.
const USERS_MAX: usize = 16_384;

/// The longest wait of a stream's messages: etcd's timeout of a request.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A user whose password, token or certificate was verified. The two APIs have users of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum VerifiedUser {
    /// Of the v2 API.
    V2(String),
    /// Of the v3 API.
    V3(String),
}

/// The origin of a request, whose limits count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestOrigin {
    pub(super) connection: Option<SocketAddr>,
    pub(super) user: Option<VerifiedUser>,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Connection,
    User,
}

/// A request that is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// The time after which it would not be.
    pub(super) wait: Duration,
    /// The limit with the longest wait.
    pub(super) by: By,
}

/// What connections and users have used of their limits.
#[derive(Debug)]
pub(super) struct Limiter {
    connections: Option<Buckets<SocketAddr>>,
    users: Option<Buckets<VerifiedUser>>,
}

impl Limiter {
    pub(super) fn new(limits: RateLimits) -> Limiter {
        let connections = |rate| Buckets::new(rate, CONNECTIONS_MAX);
        Limiter {
            connections: limits.connection.map(connections),
            users: limits.user.map(|rate| Buckets::new(rate, USERS_MAX)),
        }
    }

    /// Takes a token of each, if both have one. A request that is refused takes none: a client that
    /// sends on is admitted at its rate.
    ///
    /// # Errors
    /// One of them has none.
    pub(super) fn charge(&mut self, of: &RequestOrigin, now: Duration) -> Result<(), Over> {
        if let Some(over) = self.over(of, now, 1) {
            return Err(over);
        }
        self.take(of, now, 1);
        Ok(())
    }

    /// Takes tokens of each, also those that come within the longest wait. Returns the wait for
    /// them; requests are refused meanwhile, so that they do not starve a stream.
    ///
    /// # Errors
    /// The wait would be longer. Nothing is taken.
    pub(super) fn reserve(
        &mut self,
        of: &RequestOrigin,
        now: Duration,
        tokens: u64,
    ) -> Result<Option<Over>, Over> {
        let over = self.over(of, now, tokens);
        if let Some(over) = over.filter(|over| WAIT_MAX < over.wait) {
            return Err(over);
        }
        self.take(of, now, tokens);
        Ok(over)
    }

    /// The longer of the waits, if there is one.
    fn over(&self, of: &RequestOrigin, now: Duration, tokens: u64) -> Option<Over> {
        let connection = self.connections.as_ref().zip(of.connection.as_ref());
        let user = self.users.as_ref().zip(of.user.as_ref());
        let waits = [
            connection.map(|(all, one)| (all.wait(one, now, tokens), By::Connection)),
            user.map(|(all, one)| (all.wait(one, now, tokens), By::User)),
        ];
        let longest = waits.into_iter().flatten().max_by_key(|(wait, _)| *wait);
        let (wait, by) = longest.filter(|(wait, _)| !wait.is_zero())?;
        Some(Over { wait, by })
    }

    fn take(&mut self, of: &RequestOrigin, now: Duration, tokens: u64) {
        if let Some((all, one)) = self.connections.as_mut().zip(of.connection.as_ref()) {
            all.take(one, now, tokens);
        }
        if let Some((all, one)) = self.users.as_mut().zip(of.user.as_ref()) {
            all.take(one, now, tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RateLimit;
    use super::*;

    const NOW: Duration = Duration::from_secs(9);

    /// Five a second of a connection, two of a user.
    fn limiter() -> Limiter {
        Limiter::new(RateLimits {
            connection: RateLimit::new(5, 0),
            user: RateLimit::new(2, 0),
        })
    }

    fn origin(port: u16, user: Option<&str>) -> RequestOrigin {
        RequestOrigin {
            connection: Some(([127, 0, 0, 1], port).into()),
            user: user.map(|name| VerifiedUser::V3(name.to_owned())),
        }
    }

    #[test]
    fn one_users_connections_share_its_limit() {
        let mut limiter = limiter();
        for port in [1, 2] {
            let charged = limiter.charge(&origin(port, Some("a")), NOW);
            assert_eq!(charged, Ok(()));
        }
        let over = limiter.charge(&origin(3, Some("a")), NOW).unwrap_err();
        assert_eq!((over.by, over.wait), (By::User, Duration::from_millis(500)));
        assert_eq!(limiter.charge(&origin(1, Some("b")), NOW), Ok(()));
        let same_name_in_v2 = RequestOrigin {
            connection: None,
            user: Some(VerifiedUser::V2("a".to_owned())),
        };
        assert_eq!(limiter.charge(&same_name_in_v2, NOW), Ok(()));
    }

    #[test]
    fn a_refused_request_takes_nothing() {
        let mut limiter = limiter();
        for _ in 0..100 {
            let _ = limiter.charge(&origin(1, Some("a")), NOW);
        }
        let others = (0..5).filter(|_| limiter.charge(&origin(1, None), NOW).is_ok());
        assert_eq!(others.count(), 3, "two were the user's");
        let over = limiter.charge(&origin(1, None), NOW).unwrap_err();
        assert_eq!(over.by, By::Connection);
    }

    #[test]
    fn messages_wait_for_a_bounded_time_and_go_before_requests() {
        let mut limiter = limiter();
        let of = origin(1, Some("a"));
        assert_eq!(limiter.reserve(&of, NOW, 2), Ok(None));
        let waits = limiter.reserve(&of, NOW, 10).unwrap().expect("a wait");
        assert_eq!((waits.by, waits.wait), (By::User, WAIT_MAX));
        let refused = limiter.reserve(&of, NOW, 1).unwrap_err();
        assert!(WAIT_MAX < refused.wait);
        let mut at = |wait| limiter.charge(&of, NOW + wait).is_ok();
        assert!(!at(WAIT_MAX), "their tokens are the messages'");
        assert!(at(WAIT_MAX + Duration::from_millis(500)));
    }
}
