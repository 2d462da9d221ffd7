//! `sync.rs` for the tests, on the primitives of shuttle. A wait without a due time has no timeout:
//! if only that timeout would end a wait, shuttle reports a deadlock.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64 as Number, Ordering};
use std::time::Duration;

use shuttle::sync;
use shuttle::thread;

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
pub(crate) use shuttle::thread::{Thread, current};

/// A clock that advances only while the timer thread waits.
#[derive(Default)]
pub(crate) struct Clock {
    now_us: Number,
    /// The number of times the timer thread was parked.
    pub(crate) parks: Number,
}

impl Clock {
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    pub(crate) fn park(&self, patience: Duration) {
        self.parks.fetch_add(1, Ordering::Relaxed);
        if patience == crate::IDLE {
            return thread::park();
        }
        thread::yield_now();
        let patience_us = u64::try_from(patience.as_micros()).expect("it is short");
        self.now_us.fetch_add(patience_us, Ordering::Relaxed);
    }
}

/// A queue like crossbeam's.
pub(crate) struct Queue<E>(sync::Mutex<VecDeque<E>>);

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue(sync::Mutex::default())
    }

    pub(crate) fn push(&self, event: E) {
        self.0.lock().expect("no panic").push_back(event);
    }

    pub(crate) fn pop(&self) -> Option<E> {
        self.0.lock().expect("no panic").pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().expect("no panic").is_empty()
    }
}

/// A mutex like parking_lot's: checking the lock and taking it are one step each.
pub(crate) struct Mutex<T> {
    locked: AtomicBool,
    value: std::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex {
            locked: AtomicBool::new(false),
            value: std::sync::Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        loop {
            match self.try_lock() {
                Some(guard) => return guard,
                None => thread::yield_now(),
            }
        }
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        let is_taken = self.locked.swap(true, Ordering::SeqCst);
        (!is_taken).then(|| Guard {
            value: Some(self.value.try_lock().expect("two threads have the lock")),
            locked: &self.locked,
        })
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::SeqCst)
    }
}

pub(crate) struct Guard<'a, T> {
    value: Option<std::sync::MutexGuard<'a, T>>,
    locked: &'a AtomicBool,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("until it is dropped")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("until it is dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.locked.store(false, Ordering::SeqCst);
    }
}
