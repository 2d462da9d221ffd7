//! Counts streams that end before their requests can have been handled.
//!
//! Servers end a connection on which that happens too often (CVE-2023-44487). Here all clients'
//! calls share a member's connection, so a client that goes beyond its own bound is sent away
//! (`client`), one that comes near it gets connections of its own (`session/share.rs`), and what
//! many clients give up together reaches the member as fast as it reads (`session/resets.rs`).

use std::time::Duration;

use tokio::time::Instant;

/// A stream that ends so soon was begun for nothing.
pub(super) const AT_ONCE: Duration = Duration::from_millis(20);

/// What is counted together.
const PERIOD: Duration = Duration::from_secs(1);

/// A count that begins anew every second.
#[derive(Default)]
pub(super) struct Burst {
    count: u32,
    since: Option<Instant>,
}

impl Burst {
    /// One more. Returns whether that is more than `bound` in this second.
    pub(super) fn exceeds(&mut self, bound: u32) -> bool {
        if self.since.is_none_or(|since| PERIOD < since.elapsed()) {
            *self = Burst {
                count: 0,
                since: Some(Instant::now()),
            };
        }
        self.count += 1;
        bound < self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_count_begins_anew_every_second() {
        let mut burst = Burst::default();
        for _ in 0..3 {
            let exceeds: Vec<_> = (0..4).map(|_| burst.exceeds(2)).collect();
            assert_eq!(exceeds, [false, false, true, true]);
            tokio::time::advance(PERIOD + Duration::from_millis(1)).await;
        }
    }
}
