//! Gives memory back that a burst has left in the heap.
//!
//! glibc keeps what is freed between two things that live, whole pages of it, and hardly ever looks
//! again: minutes after a burst of connections or large values a process held nearly all of it. So
//! the process looks at itself every second, and once it has grown and stands still, it has glibc
//! return every free page. When little came back the next try is further off, up to a minute: what
//! is there may be in use.

use std::fs;
use std::time::Duration;

use tokio::time;
use tracing::debug;

use crate::pages;

const LOOK: Duration = Duration::from_secs(1);

/// The longest pause between two tries, in looks.
const PAUSE_MAX: u32 = 60;

/// In pages: so much more than there was at the least is worth a walk through the heap's free lists.
const MUCH: usize = 2048;

/// For ever.
pub(crate) async fn give_back() {
    let mut heap = Heap::new(anonymous());
    loop {
        time::sleep(LOOK).await;
        let now = anonymous();
        if heap.is_worth_a_try(now) {
            pages::trim_heap();
            let after = anonymous();
            heap.tried(now, after);
            debug!(before_pages = now, after_pages = after, "gave memory back");
        }
    }
}

/// The process's memory that is no file's, in pages; 0 where that cannot be learnt.
fn anonymous() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut words = statm.split_ascii_whitespace().skip(1);
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
    match (number(), number()) {
        (Some(resident), Some(shared)) => resident.saturating_sub(shared),
        _ => 0,
    }
}

/// What is remembered between two looks; in pages.
#[derive(Debug)]
struct Heap {
    /// The least there was.
    least: usize,
    /// At the last look.
    before: usize,
    /// Looks until the next try, and how many they were at first.
    left: u32,
    pause: u32,
}

impl Heap {
    fn new(now: usize) -> Heap {
        Heap {
            least: now,
            before: now,
            left: 0,
            pause: 1,
        }
    }

    /// Whether there is much more than at the least, it does not grow, and the last try is long ago
    /// enough.
    fn is_worth_a_try(&mut self, now: usize) -> bool {
        self.least = self.least.min(now);
        self.left = self.left.saturating_sub(1);
        let stands_still = now <= self.before + self.before / 64;
        self.before = now;
        self.least + MUCH < now && stands_still && self.left == 0
    }

    /// What a try brought.
    fn tried(&mut self, before: usize, after: usize) {
        self.pause = match before.saturating_sub(after) * 16 < before {
            true => (self.pause * 2).min(PAUSE_MAX),
            false => 1,
        };
        self.left = self.pause;
        self.before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_that_is_over_is_worth_a_try_and_a_growing_one_is_not() {
        let mut heap = Heap::new(1000);
        assert!(!heap.is_worth_a_try(1000));
        assert!(!heap.is_worth_a_try(20_000), "it grows");
        assert!(!heap.is_worth_a_try(40_000), "it grows");
        assert!(heap.is_worth_a_try(40_100));
        heap.tried(40_100, 1200);
        assert!(!heap.is_worth_a_try(1200), "it is back");
    }

    #[test]
    fn what_is_in_use_is_tried_less_and_less_often_and_never_given_up() {
        let mut heap = Heap::new(1000);
        heap.is_worth_a_try(40_000);
        let mut tries = Vec::new();
        for look in 0..1000 {
            if heap.is_worth_a_try(40_000) {
                heap.tried(40_000, 40_000);
                tries.push(look);
            }
        }
        assert!(tries.len() < 30, "{tries:?}");
        assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 60));
        assert!(940 < *tries.last().unwrap());
    }

    /// Many small things of which every hundredth lives: what glibc keeps otherwise.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn pages_between_things_that_live_come_back() {
        let many: Vec<Box<[u8; 1000]>> = (0..100_000).map(|_| Box::new([1; 1000])).collect();
        let full = anonymous();
        let mut live = Vec::new();
        for (number, one) in many.into_iter().enumerate() {
            if number % 100 == 0 {
                live.push(one);
            }
        }
        pages::trim_heap();
        let after = anonymous();
        // 100 MB were written, of which 1 MB lives; tests beside this one have memory too.
        assert!(after + 12_000 < full, "{after} of {full} pages");
        assert_eq!(live.len(), 1000);
    }
}
