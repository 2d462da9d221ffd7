//! Something that many wait for and that hardly ever happens.
//!
//! Every connection waits for the end of the server, and every watch for the end of its member. What
//! tokio has for it takes some 180 bytes of each who waits; this takes forty.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use slab::Slab;

/// Who waits.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    wakers: Slab<Waker>,
    /// How often it has rung; places of before are nobody's.
    rung: u32,
}

/// Something that is over one day, or for a time, and says so by a bell.
pub trait Ends {
    /// Rung when it may be over.
    fn bell(&self) -> &Bell;

    /// Whether it is.
    fn is_over(&self) -> bool;
}

impl Bell {
    /// Wakes all who wait, to look.
    pub fn ring(&self) {
        let wakers = {
            let mut waiting = self.0.lock();
            waiting.rung = waiting.rung.wrapping_add(1);
            std::mem::take(&mut waiting.wakers)
        };
        // The lock is free again: they may want it.
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// How many wait now.
    pub fn waiters(&self) -> usize {
        self.0.lock().wakers.len()
    }
}

/// Ready when something is over.
#[derive(Debug)]
pub struct Over<T: Deref<Target: Ends>> {
    of: T,
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: usize,
    rung: u32,
}

impl<T: Deref<Target: Ends>> Over<T> {
    /// Waits for the end of `of`.
    pub fn of(of: T) -> Over<T> {
        Over { of, place: None }
    }
}

impl<T: Deref<Target: Ends> + Unpin> Future for Over<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Over { of, place } = &mut *self;
        if of.is_over() {
            return Poll::Ready(());
        }
        {
            let mut waiting = of.bell().0.lock();
            let rung = waiting.rung;
            match place.filter(|place| place.rung == rung) {
                Some(Place { key, .. }) => waiting.wakers[key].clone_from(cx.waker()),
                None => {
                    let key = waiting.wakers.insert(cx.waker().clone());
                    *place = Some(Place { key, rung });
                }
            }
        }
        // It may have come to its end, and rung, before anybody was there to hear it.
        match of.is_over() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<T: Deref<Target: Ends>> Drop for Over<T> {
    fn drop(&mut self) {
        if let Some(Place { key, rung }) = self.place {
            let mut waiting = self.of.bell().0.lock();
            if waiting.rung == rung {
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
        bell: Bell,
    }

    impl Ends for Day {
        fn bell(&self) -> &Bell {
            &self.bell
        }

        fn is_over(&self) -> bool {
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

    fn poll(over: &mut Over<&Day>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        let mut cx = Context::from_waker(&waker);
        Pin::new(over).poll(&mut cx).is_ready()
    }

    #[test]
    fn all_who_wait_are_woken_and_who_left_is_forgotten() {
        let day = Day::default();
        let mut some: Vec<_> = (0..9).map(|_| (Over::of(&day), Arc::default())).collect();
        for (over, woken) in &mut some {
            assert!(!poll(over, woken));
        }
        some.truncate(7);
        // Again, and by another waker: the earlier one is not kept.
        some[0].1 = Arc::default();
        for (over, woken) in &mut some {
            assert!(!poll(over, woken));
        }
        assert_eq!(day.bell.0.lock().wakers.len(), 7);
        day.over.store(true, Ordering::SeqCst);
        day.bell.ring();
        for (over, woken) in &mut some {
            assert!(woken.0.load(Ordering::SeqCst));
            assert!(poll(over, woken));
        }
        assert!(poll(&mut Over::of(&day), &Arc::default()));
    }

    #[test]
    fn a_ring_for_nothing_is_slept_through() {
        let day = Day::default();
        let (mut first, mut second) = (Over::of(&day), Over::of(&day));
        let woken = Arc::<Woken>::default();
        assert!(!poll(&mut first, &woken));
        day.bell.ring();
        // It takes the place that the first had; that one must not take it away.
        assert!(!poll(&mut second, &woken));
        drop(first);
        assert_eq!(day.bell.0.lock().wakers.len(), 1);
        drop(second);
        assert!(day.bell.0.lock().wakers.is_empty());
    }
}
