//! Counts events a second, such as resets and control frames.

use std::time::Duration;

use tokio::time::Instant;

/// The counting period.
const PERIOD: Duration = Duration::from_secs(1);

/// A count that starts at zero every second.
#[derive(Default)]
pub struct RateLimit {
    count: u32,
    since: Option<Instant>,
}

impl RateLimit {
    /// Counts one event. Returns whether there are more than `bound` in this second.
    pub fn exceeds(&mut self, bound: u32) -> bool {
        if self.since.is_none_or(|since| PERIOD < since.elapsed()) {
            *self = RateLimit {
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
        let mut burst = RateLimit::default();
        for _ in 0..3 {
            let exceeds: Vec<_> = (0..4).map(|_| burst.exceeds(2)).collect();
            assert_eq!(exceeds, [false, false, true, true]);
            tokio::time::advance(PERIOD + Duration::from_millis(1)).await;
        }
    }
}
