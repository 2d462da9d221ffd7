//! The proxies that use this member: each checks every member's `/version`, every 10 s at most.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::HeaderMap;
use keelson_port::metrics::Exposition;
use parking_lot::Mutex;

/// The field with a proxy's id, in requests of its own and of its clients.
const PROXIED_BY: &str = "keelson-proxied-by";
/// A proxy that was not seen for so long is gone.
const SEEN_FOR: Duration = Duration::from_secs(60);
/// Proxies that are counted.
const PROXIES_MAX: usize = 1024;

/// When each proxy was seen last, by its id.
#[derive(Debug, Default)]
pub(super) struct SeenProxies(Mutex<HashMap<u64, Instant>>);

impl SeenProxies {
    /// Notes the proxy that a request has come from, if it has.
    pub(super) fn note(&self, headers: &HeaderMap, now: Instant) {
        // The last one is the nearest; an id has 16 hexadecimal digits.
        let id = headers.get_all(PROXIED_BY).iter().next_back();
        let id = id.and_then(|id| id.to_str().ok());
        let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) else {
            return;
        };
        let mut seen = self.0.lock();
        if seen.len() == PROXIES_MAX && !seen.contains_key(&id) {
            seen.retain(|_, at| now.saturating_duration_since(*at) <= SEEN_FOR);
        }
        if seen.len() < PROXIES_MAX || seen.contains_key(&id) {
            seen.insert(id, now);
        }
    }

    fn count(&self, now: Instant) -> usize {
        let mut seen = self.0.lock();
        seen.retain(|_, at| now.saturating_duration_since(*at) <= SEEN_FOR);
        seen.len()
    }

    /// Writes their number.
    pub(super) fn write(&self, out: &mut Exposition) {
        let help = "Number of Keelson's proxies that have checked this member in the last minute, \
                    1024 at most.";
        out.gauge("keelson_proxies_seen", help, self.count(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(PROXIED_BY, id.parse().unwrap());
        headers
    }

    #[test]
    fn a_proxy_counts_once_until_it_is_gone() {
        let (proxies, now) = (SeenProxies::default(), Instant::now());
        let later = now + SEEN_FOR / 2;
        for id in ["00000000000000aa", "00000000000000ab", "none", ""] {
            proxies.note(&from(id), now);
        }
        proxies.note(&HeaderMap::new(), now);
        proxies.note(&from("00000000000000aa"), later);
        assert_eq!(proxies.count(later), 2);
        assert_eq!(proxies.count(now + SEEN_FOR + Duration::from_secs(1)), 1);
        assert_eq!(proxies.count(later + 2 * SEEN_FOR), 0);
    }

    #[test]
    fn made_up_proxies_are_bounded() {
        let (proxies, now) = (SeenProxies::default(), Instant::now());
        for id in 0..2 * PROXIES_MAX {
            proxies.note(&from(&format!("{id:016x}")), now);
        }
        assert_eq!(proxies.count(now), PROXIES_MAX);
        // Their places are free again later.
        let later = now + 2 * SEEN_FOR;
        proxies.note(&from("00000000ffffffff"), later);
        assert_eq!(proxies.count(later), 1);
    }
}
