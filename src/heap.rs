//! Returns heap memory to the system after a burst.
//!
//! glibc keeps freed pages between two live allocations, and hardly ever returns them: minutes
//! after a burst of connections or large values a process held nearly all of its peak. So the
//! process measures its memory every second. Once it has grown and then stayed level for a while,
//! glibc is made to return every free page, on a thread that may block. Requests go on meanwhile,
//! except for those that allocate from the arena being trimmed. When a trim returned little, or the
//! memory was soon taken again, the next trim waits longer, up to a minute: the memory may be in
//! use.

use std::fs;
use std::time::Duration;

use tokio::{task, time};
use tracing::debug;

use crate::pages;

const LOOK: Duration = Duration::from_secs(1);

/// Measurements without growth after which a burst counts as over.
const QUIET: u32 = 3;

/// The longest pause between two trims, in measurements.
const PAUSE_MAX: u32 = 60;

/// Growth in bytes above the minimum that justifies a walk through the heap's free lists.
const MUCH: u64 = 8 << 20;

/// Runs until the process ends.
pub(crate) async fn trim_after_bursts() {
    let mut heap = HeapMonitor::new(anonymous());
    loop {
        time::sleep(LOOK).await;
        let before = anonymous();
        if heap.is_worth_trimming(before) {
            if let Err(error) = task::spawn_blocking(pages::trim_heap).await {
                debug!(%error, "could not trim the heap");
            }
            let after = anonymous();
            heap.trimmed(before, after);
            debug!(before, after, "trimmed the heap");
        }
    }
}

/// Bytes of resident memory that are not mapped from files; 0 where that cannot be measured.
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

/// The state between two measurements, in bytes and in measurements.
#[derive(Debug)]
struct HeapMonitor {
    /// The minimum so far.
    least: u64,
    /// At the last measurement.
    before: u64,
    /// Measurements without growth.
    quiet: u32,
    /// Measurements since the last trim, and the minimum of them before the next one.
    since: u32,
    pause: u32,
    /// Above this, most of the memory that the last trim returned has been taken again.
    taken_again: u64,
}

impl HeapMonitor {
    fn new(now: u64) -> HeapMonitor {
        HeapMonitor {
            least: now,
            before: now,
            quiet: 0,
            since: PAUSE_MAX,
            pause: 1,
            taken_again: u64::MAX,
        }
    }

    /// Whether the memory is far above the minimum and does not grow, and the last trim is long
    /// enough ago.
    fn is_worth_trimming(&mut self, now: u64) -> bool {
        self.least = self.least.min(now);
        self.since = self.since.saturating_add(1);
        self.quiet = match now <= self.before + self.before / 64 {
            true => self.quiet.saturating_add(1),
            false => 0,
        };
        self.before = now;
        self.least + MUCH < now && QUIET <= self.quiet && self.pause <= self.since
    }

    /// Records the result of a trim.
    fn trimmed(&mut self, before: u64, after: u64) {
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
        let mut heap = HeapMonitor::new(4 * MB);
        assert!(!heap.is_worth_trimming(4 * MB));
        assert!(!heap.is_worth_trimming(80 * MB), "it grows");
        assert!(!heap.is_worth_trimming(160 * MB), "it grows");
        assert!(!heap.is_worth_trimming(161 * MB), "the burst may go on");
        assert!(!heap.is_worth_trimming(160 * MB), "the burst may go on");
        assert!(heap.is_worth_trimming(160 * MB));
        heap.trimmed(160 * MB, 5 * MB);
        assert!(!heap.is_worth_trimming(5 * MB), "the memory is back");
    }

    #[test]
    fn what_is_in_use_is_tried_less_and_less_often_and_never_given_up() {
        let mut heap = HeapMonitor::new(4 * MB);
        heap.is_worth_trimming(160 * MB);
        let mut trims = Vec::new();
        for look in 0..1000 {
            if heap.is_worth_trimming(160 * MB) {
                heap.trimmed(160 * MB, 160 * MB);
                trims.push(look);
            }
        }
        assert!(trims.len() < 30, "{trims:?}");
        assert!(trims.windows(2).all(|pair| pair[1] - pair[0] <= 60));
        assert!(940 < *trims.last().unwrap());
    }

    /// The whole heap was walked through every few seconds, only to be filled again.
    #[test]
    fn memory_that_is_taken_again_at_once_is_tried_less_and_less_often() {
        for period in 1..30 {
            let (mut heap, mut now) = (HeapMonitor::new(4 * MB), 4 * MB);
            let mut trims = 0;
            for look in 0..1000 {
                if look % period == 0 {
                    now = 160 * MB;
                }
                if heap.is_worth_trimming(now) {
                    heap.trimmed(now, 4 * MB);
                    (trims, now) = (trims + 1, 4 * MB);
                }
            }
            assert!(
                (1..40).contains(&trims),
                "{trims} with a burst each {period} s"
            );
            // After the last burst its memory is returned, and the next burst counts as a new one.
            assert!(
                (0..70).any(|_| heap.is_worth_trimming(160 * MB)),
                "{period}"
            );
            heap.trimmed(160 * MB, 4 * MB);
            assert!(
                !(0..200).any(|_| heap.is_worth_trimming(4 * MB)),
                "{period}"
            );
            assert!((0..5).any(|_| heap.is_worth_trimming(160 * MB)), "{period}");
            heap.trimmed(160 * MB, 4 * MB);
            assert_eq!(heap.pause, 1);
        }
    }

    /// Many small allocations of which every hundredth stays: the pattern in which glibc keeps
    /// pages.
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
        // 100 MB were written, of which 1 MB stays; concurrent tests have memory too.
        assert!(after + 50 * MB < full, "{after} of {full} bytes");
        assert_eq!(live.len(), 1000);
    }
}
