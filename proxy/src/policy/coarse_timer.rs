//! One timer for all requests that may come to take too long.
//!
//! Every request is given a moment before anybody wonders. A timer of its own would nearly always be
//! cancelled, and the runtime, which is told that it must wake earlier than it thought, makes a system
//! call of it. So one timer beats while there are requests, and they count its beats.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time;

/// Between two beats.
const TICK: Duration = Duration::from_millis(100);

/// After so many beats a request has taken long: between 200 and 300 ms. Most answers take a
/// hundredth of it.
const TICKS: u32 = 3;

/// The timer.
#[derive(Default)]
pub(crate) struct CoarseTimer {
    tick: Notify,
    /// A request has begun to wait since the last beat.
    wanted: AtomicBool,
    /// It rests, and has to be woken.
    rests: AtomicBool,
    wake: Notify,
}

impl CoarseTimer {
    /// Beats for ever, while anybody waits.
    pub(crate) async fn run(&self) {
        loop {
            time::sleep(TICK).await;
            self.tick.notify_waiters();
            if self.wanted.swap(false, Ordering::SeqCst) {
                continue;
            }
            // Those who still wait have said so at each beat.
            self.rests.store(true, Ordering::SeqCst);
            if !self.wanted.load(Ordering::SeqCst) {
                self.wake.notified().await;
            }
            self.rests.store(false, Ordering::SeqCst);
        }
    }

    /// What comes of it in a short time; `None`: it takes long.
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
        self.wanted.store(true, Ordering::SeqCst);
        if self.rests.swap(false, Ordering::SeqCst) {
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

    async fn runs() -> Arc<CoarseTimer> {
        let timer = Arc::new(CoarseTimer::default());
        let running = Arc::clone(&timer);
        tokio::spawn(async move { running.run().await });
        // It has come to rest.
        time::sleep(TICK * 4).await;
        timer
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_noticed_after_three_beats_whenever_it_begins() {
        let timer = runs().await;
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
        let timer = runs().await;
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
