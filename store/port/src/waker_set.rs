//! A set of wakers for a condition that many tasks wait for and that rarely becomes true.
//!
//! Every connection waits for the end of the server, and every watch for the end of its member. A
//! waiter of tokio's channels takes some 180 bytes; one of this set takes forty.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use slab::Slab;

/// The wakers of all tasks that wait for a condition.
#[derive(Debug, Default)]
pub struct WakerSet(Mutex<WakerSlots>);

#[derive(Debug, Default)]
struct WakerSlots {
    wakers: Slab<Waker>,
    /// Counts `wake_all`. A key of an earlier generation is no longer in the slab.
    generation: u32,
}

/// A condition that can become final, or hold for a time, and wakes its waiters.
pub trait Terminates {
    /// The tasks to wake when the condition may have become true.
    fn wakers(&self) -> &WakerSet;

    /// Whether the condition holds.
    fn is_terminated(&self) -> bool;
}

impl WakerSet {
    /// Wakes all waiting tasks. Each checks the condition again.
    pub fn wake_all(&self) {
        let wakers = {
            let mut waiting = self.0.lock();
            waiting.generation = waiting.generation.wrapping_add(1);
            std::mem::take(&mut waiting.wakers)
        };
        // Outside the lock: a woken task may take it at once.
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// The number of tasks that wait now.
    pub fn waiters(&self) -> usize {
        self.0.lock().wakers.len()
    }
}

/// A future that is ready when a condition holds.
#[derive(Debug)]
pub struct Termination<T: Deref<Target: Terminates>> {
    of: T,
    place: Option<WakerKey>,
}

#[derive(Clone, Copy, Debug)]
struct WakerKey {
    key: usize,
    generation: u32,
}

impl<T: Deref<Target: Terminates>> Termination<T> {
    /// Waits until `of` is terminated.
    pub fn of(of: T) -> Termination<T> {
        Termination { of, place: None }
    }
}

impl<T: Deref<Target: Terminates> + Unpin> Future for Termination<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Termination { of, place } = &mut *self;
        if of.is_terminated() {
            return Poll::Ready(());
        }
        {
            let mut waiting = of.wakers().0.lock();
            let generation = waiting.generation;
            match place.filter(|place| place.generation == generation) {
                Some(WakerKey { key, .. }) => waiting.wakers[key].clone_from(cx.waker()),
                None => {
                    let key = waiting.wakers.insert(cx.waker().clone());
                    *place = Some(WakerKey { key, generation });
                }
            }
        }
        // The condition may have become true before the waker was in the set.
        match of.is_terminated() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<T: Deref<Target: Terminates>> Drop for Termination<T> {
    fn drop(&mut self) {
        if let Some(WakerKey { key, generation }) = self.place {
            let mut waiting = self.of.wakers().0.lock();
            if waiting.generation == generation {
                waiting.wakers.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Day {
        over: AtomicBool,
        wakers: WakerSet,
    }

    impl Terminates for Day {
        fn wakers(&self) -> &WakerSet {
            &self.wakers
        }

        fn is_terminated(&self) -> bool {
            self.over.load(Ordering::SeqCst)
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn poll(over: &mut Termination<&Day>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        let mut cx = Context::from_waker(&waker);
        Pin::new(over).poll(&mut cx).is_ready()
    }

    #[test]
    fn all_who_wait_are_woken_and_who_left_is_forgotten() {
        let day = Day::default();
        let mut some: Vec<_> = (0..9)
            .map(|_| (Termination::of(&day), Arc::default()))
            .collect();
        for (over, woken) in &mut some {
            assert!(!poll(over, woken));
        }
        some.truncate(7);
        // Again, and by another waker: the earlier one is not kept.
        some[0].1 = Arc::default();
        for (over, woken) in &mut some {
            assert!(!poll(over, woken));
        }
        assert_eq!(day.wakers.0.lock().wakers.len(), 7);
        day.over.store(true, Ordering::SeqCst);
        day.wakers.wake_all();
        for (over, woken) in &mut some {
            assert!(woken.0.load(Ordering::SeqCst));
            assert!(poll(over, woken));
        }
        assert!(poll(&mut Termination::of(&day), &Arc::default()));
    }

    #[test]
    fn a_ring_for_nothing_is_slept_through() {
        let day = Day::default();
        let (mut first, mut second) = (Termination::of(&day), Termination::of(&day));
        let woken = Arc::<Woken>::default();
        assert!(!poll(&mut first, &woken));
        day.wakers.wake_all();
        // The second waker takes the first one's key; dropping the first must not remove it.
        assert!(!poll(&mut second, &woken));
        drop(first);
        assert_eq!(day.wakers.0.lock().wakers.len(), 1);
        drop(second);
        assert!(day.wakers.0.lock().wakers.is_empty());
    }
}
