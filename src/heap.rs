//! Gives memory back that a burst has left in the heap.
//!
//! glibc keeps what is freed between two things that live, whole pages of it, and hardly ever looks
//! again: minutes after a burst of connections or large values a process held nearly all of it. So
//! the process looks at itself every second, and once it has grown and then stood still for a while,
//! it has glibc return every free page, on a thread that may block: requests go on meanwhile, but for
//! those that allocate where glibc is at work. When little came back, or all of it was soon taken
//! again, the next try is further off, up to a minute: what is there may be in use.

use std::fs;
use std::time::Duration;

use tokio::{task, time};
use tracing::debug;

use crate::pages;

const LOOK: Duration = Duration::from_secs(1);

/// Looks without growth that make a burst be over.
const QUIET: u32 = 3;

/// The longest pause between two tries, in looks.
const PAUSE_MAX: u32 = 60;

/// So many bytes more than there were at the least are worth a walk through the heap's free lists.
const MUCH: u64 = 8 << 20;

/// For ever.
pub(crate) async fn give_back() {
    let mut heap = Heap::new(anonymous());
    loop {
        time::sleep(LOOK).await;
        let before = anonymous();
        if heap.is_worth_a_try(before) {
            if let Err(error) = task::spawn_blocking(pages::trim_heap).await {
                debug!(%error, "memory was not given back");
            }
            let after = anonymous();
            heap.tried(before, after);
            debug!(before, after, "gave memory back");
        }
    }
}

/// Bytes of the process's memory that are no file's; 0 where that cannot be learnt.
fn anonymous() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut words = statm.split_ascii_whitespace().skip(1);
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    match (number(), number()) {
        (Some(resident), Some(shared)) => {
            resident.saturating_sub(shared) * rustix::param::page_size() as u64
        }
        _ => 0,
    }
}

/// What is remembered between two looks; in bytes, and in looks.
#[derive(Debug)]
struct Heap {
    /// The least there was.
    least: u64,
    /// At the last look.
    before: u64,
    /// Looks without growth.
    quiet: u32,
    /// Looks since the last try, and the fewest of them before the next one.
    since: u32,
    pause: u32,
    /// Above this, most of what the last try brought has been taken again.
    taken_again: u64,
}

impl Heap {
    fn new(now: u64) -> Heap {
        Heap {
            least: now,
            before: now,
            quiet: 0,
            since: PAUSE_MAX,
            pause: 1,
            taken_again: u64::MAX,
        }
    }

    /// Whether there is much more than at the least, it does not grow, and the last try is long ago
    /// enough.
    fn is_worth_a_try(&mut self, now: u64) -> bool {
        self.least = self.least.min(now);
        self.since = self.since.saturating_add(1);
        self.quiet = match now <= self.before + self.before / 64 {
            true => self.quiet.saturating_add(1),
            false => 0,
        };
        self.before = now;
        self.least + MUCH < now && QUIET <= self.quiet && self.pause <= self.since
    }

    /// What a try brought.
    fn tried(&mut self, before: u64, after: u64) {
        let brought = before.saturating_sub(after);
        let little = brought * 16 < before;
        let is_soon = self.since <= 2 * PAUSE_MAX;
        let in_vain = is_soon && self.taken_again < before;
        self.pause = match little || in_vain {
            true => (self.pause * 2).min(PAUSE_MAX),
            false => 1,
        };
        self.taken_again = after.saturating_add(brought / 2);
        self.since = 0;
        self.before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn a_burst_that_is_over_is_worth_a_try_and_a_growing_one_is_not() {
        let mut heap = Heap::new(4 * MB);
        assert!(!heap.is_worth_a_try(4 * MB));
        assert!(!heap.is_worth_a_try(80 * MB), "it grows");
        assert!(!heap.is_worth_a_try(160 * MB), "it grows");
        assert!(!heap.is_worth_a_try(161 * MB), "it may go on");
        assert!(!heap.is_worth_a_try(160 * MB), "it may go on");
        assert!(heap.is_worth_a_try(160 * MB));
        heap.tried(160 * MB, 5 * MB);
        assert!(!heap.is_worth_a_try(5 * MB), "it is back");
    }

    #[test]
    fn what_is_in_use_is_tried_less_and_less_often_and_never_given_up() {
        let mut heap = Heap::new(4 * MB);
        heap.is_worth_a_try(160 * MB);
        let mut tries = Vec::new();
        for look in 0..1000 {
            if heap.is_worth_a_try(160 * MB) {
                heap.tried(160 * MB, 160 * MB);
                tries.push(look);
            }
        }
        assert!(tries.len() < 30, "{tries:?}");
        assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 60));
        assert!(940 < *tries.last().unwrap());
    }

    /// Every few seconds all of the heap was walked through, only to be filled again.
    #[test]
    fn memory_that_is_taken_again_at_once_is_tried_less_and_less_often() {
        for period in 1..30 {
            let (mut heap, mut now) = (Heap::new(4 * MB), 4 * MB);
            let mut tries = 0;
            for look in 0..1000 {
                if look % period == 0 {
                    now = 160 * MB;
                }
                if heap.is_worth_a_try(now) {
                    heap.tried(now, 4 * MB);
                    (tries, now) = (tries + 1, 4 * MB);
                }
            }
            assert!(
                (1..40).contains(&tries),
                "{tries} with a burst each {period} s"
            );
            // The last burst's memory comes back, and the next burst is a new one.
            assert!((0..70).any(|_| heap.is_worth_a_try(160 * MB)), "{period}");
            heap.tried(160 * MB, 4 * MB);
            assert!(!(0..200).any(|_| heap.is_worth_a_try(4 * MB)), "{period}");
            assert!((0..5).any(|_| heap.is_worth_a_try(160 * MB)), "{period}");
            heap.tried(160 * MB, 4 * MB);
            assert_eq!(heap.pause, 1);
        }
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
        assert!(after + 50 * MB < full, "{after} of {full} bytes");
        assert_eq!(live.len(), 1000);
    }
}
