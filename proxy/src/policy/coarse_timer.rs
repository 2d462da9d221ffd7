//! One timer for the timeouts of all requests.
//!
//! A request counts as slow after a fixed short time. A timer of its own would nearly always be
//! cancelled, and would make the runtime reprogram its earliest wake-up, which is a system call. So
//! one timer ticks while requests are in flight, and each request counts ticks.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time;

/// Between two ticks.
const TICK: Duration = Duration::from_millis(100);

/// A request is slow after this many ticks: between 200 and 300 ms. Most answers take a hundredth.
const TICKS: u32 = 3;

/// The timer.
#[derive(Default)]
pub(crate) struct CoarseTimer {
    tick: Notify,
    /// A request has started to wait since the last tick.
    needed: AtomicBool,
    /// The timer is stopped until `wake`.
    stopped: AtomicBool,
    wake: Notify,
}

impl CoarseTimer {
    /// Ticks while requests wait. Never returns.
    pub(crate) async fn run(&self) {
        loop {
            time::sleep(TICK).await;
            self.tick.notify_waiters();
            if self.needed.swap(false, Ordering::SeqCst) {
                continue;
            }
            // Requests that still wait set `needed` again after each tick.
            self.stopped.store(true, Ordering::SeqCst);
            if !self.needed.load(Ordering::SeqCst) {
                self.wake.notified().await;
            }
            self.stopped.store(false, Ordering::SeqCst);
        }
    }

    /// The output of `work`, or `None` once it is slow.
    pub(crate) async fn with_slow_timeout<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        for _ in 0..TICKS {
            let mut tick = pin!(self.tick.notified());
            tokio::select! {
                biased;
                done = work.as_mut() => return Some(done),
                () = self.next(tick.as_mut()) => {}
            }
        }
        None
    }

    async fn next(&self, tick: Pin<&mut impl Future<Output = ()>>) {
        self.needed.store(true, Ordering::SeqCst);
        if self.stopped.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
        tick.await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;

    async fn started() -> Arc<CoarseTimer> {
        let timer = Arc::new(CoarseTimer::default());
        let running = Arc::clone(&timer);
        tokio::spawn(async move { running.run().await });
        // Without requests it stops.
        time::sleep(TICK * 4).await;
        timer
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_noticed_after_three_ticks_whenever_it_begins() {
        let timer = started().await;
        for pause in [0, 1, 99, 100, 101, 1000, 5000] {
            time::sleep(Duration::from_millis(pause)).await;
            let began = Instant::now();
            assert_eq!(timer.with_slow_timeout(pin!(pending::<()>())).await, None);
            let took = began.elapsed();
            assert!((TICK * 2..=TICK * 3).contains(&took), "{pause}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_quick_is_not_held_up() {
        let timer = started().await;
        let began = Instant::now();
        assert_eq!(timer.with_slow_timeout(pin!(ready(7))).await, Some(7));
        let slow = async {
            time::sleep(TICK + Duration::from_millis(1)).await;
            8
        };
        assert_eq!(timer.with_slow_timeout(pin!(slow)).await, Some(8));
        assert!(began.elapsed() < TICK * 2);
    }
}
