//! Limits for each client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bound on the number of addresses kept at a time.
const ADDRESSES_MAX: usize = 65_536;

/// A token bucket that refills by one token at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The bucket's capacity.
    pub burst: u32,
    /// The time in which one token comes back.
    pub every: Duration,
}

/// The address that a limit counts: an IPv6 customer has a whole /64.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

/// Token buckets by address.
#[derive(Debug)]
pub(super) struct RateLimiter {
    limit: RateLimit,
    /// When the address's bucket will be full again.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl RateLimiter {
    pub(super) fn new(limit: RateLimit) -> RateLimiter {
        let full_at = Mutex::default();
        RateLimiter { limit, full_at }
    }

    /// Takes one token. The error is the time until the next one.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock();
        if ADDRESSES_MAX <= full_at.len() {
            full_at.retain(|_, at| now < *at);
        }
        let crowded = ADDRESSES_MAX <= full_at.len();
        let address = owner(address);
        let at = full_at.get(&address).copied().unwrap_or(now).max(now);
        let taken = at + self.limit.every;
        let span = self.limit.every.saturating_mul(self.limit.burst);
        if let Some(excess) = taken.duration_since(now).checked_sub(span)
            && !excess.is_zero()
        {
            return Err(excess);
        }
        if crowded && !full_at.contains_key(&address) {
            return Err(self.limit.every);
        }
        full_at.insert(address, taken);
        Ok(())
    }
}

/// Connections by address.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection; frees its place when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    address: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Connections {
        let open = Arc::default();
        Connections { max, open }
    }

    /// A place, unless the address has too many connections.
    pub(super) fn take(&self, address: IpAddr) -> Option<ConnectionPlace> {
        let address = owner(address);
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if self.max <= *count {
            return None;
        }
        *count += 1;
        let open = Arc::clone(&self.open);
        Some(ConnectionPlace { address, open })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_run_out_and_come_back() {
        let every = Duration::from_secs(10);
        let tries = RateLimiter::new(RateLimit { burst: 2, every });
        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let start = Instant::now();
        assert_eq!(tries.take(here, start), Ok(()));
        assert_eq!(tries.take(here, start), Ok(()));
        assert_eq!(tries.take(here, start), Err(every));
        assert_eq!(tries.take(there, start), Ok(()));
        let later = start + Duration::from_secs(4);
        assert_eq!(tries.take(here, later), Err(Duration::from_secs(6)));
        assert_eq!(tries.take(here, start + every), Ok(()));
    }

    #[test]
    fn a_network_is_one_address_and_places_are_given_back() {
        let connections = Connections::new(1);
        let first = connections.take("2001:db8::1".parse().expect("an address"));
        assert!(first.is_some());
        let second = "2001:db8::2".parse().expect("an address");
        assert!(connections.take(second).is_none());
        drop(first);
        assert!(connections.take(second).is_some());
        assert!(connections.open.lock().is_empty());
    }
}
