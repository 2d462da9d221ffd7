//! Runs one worker on the threads that bring it events: flat combining.
//!
//! There is one queue of events, one slot with the worker, and one due time. A thread that brings
//! an event becomes the combiner unless another thread is: it takes the worker, which takes what
//! has come. Otherwise the event is left to the present combiner, which looks again after it has
//! released the slot. So an event costs no wake-up as long as the worker is free. The keeper, a
//! thread of the executor's own, calls the worker when its due time has come, and goes on where a
//! combiner has done one round and something is left.
//!
//! Under load a round for every event would keep events from sharing one. So when the last round
//! had much to do, the next event is left to the keeper, which takes all that has come by the time
//! it wakes.
//!
//! The crate is apart from its user because its unit tests, and nothing else, are built on the
//! primitives of shuttle (`modelled.rs`), which explores how the threads interleave.

#[cfg_attr(test, path = "modelled.rs")]
mod sync;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sync::{AtomicBool, AtomicU64, AtomicUsize, Clock, Mutex, Queue, Thread, fence};

/// Without a due time the keeper looks again after this long.
const IDLE: Duration = Duration::from_secs(1);

/// What an executor runs, on one thread at a time.
pub trait Worker {
    /// What it is brought.
    type Event;

    /// So much load in one round, or more, is a crowd: the next event is left to the keeper...
    const CROWD: usize;

    /// ...if that round was less than so many microseconds ago.
    const CROWD_US: u64;

    /// Takes events, at least one if there are any, and does what is due. It is `now_ms`, in
    /// milliseconds of the executor's clock.
    fn work(&mut self, now_ms: u64, events: Events<'_, Self::Event>) -> Worked;

    /// `work` has panicked and left something half done. It is called again, but must only drop its
    /// events.
    fn panicked(&mut self);
}

/// What has come and is not taken yet, oldest first.
pub struct Events<'a, E>(&'a Queue<E>);

impl<E> Iterator for Events<'_, E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        self.0.pop()
    }
}

/// What came of a round.
#[derive(Clone, Copy, Debug)]
pub struct Worked {
    /// How much there was to do; see `Worker::CROWD`.
    pub load: usize,
    /// When the next round is due even without an event, in milliseconds of the executor's clock.
    pub due_ms: u64,
}

/// The executor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A worker, and what waits for it. Shared by all threads that bring events.
pub struct Executor<W: Worker> {
    clock: Clock,
    events: Queue<W::Event>,
    worker: Mutex<Option<W>>,
    due_ms: AtomicU64,
    /// When the last round ended, in microseconds of the clock.
    worked_us: AtomicU64,
    /// How much the last round had to do.
    load: AtomicUsize,
    /// The keeper waits for the combiner.
    overdue: AtomicBool,
    stopped: AtomicBool,
    keeper: OnceLock<Thread>,
    /// How often the keeper has looked.
    #[cfg(test)]
    looks: std::sync::atomic::AtomicU64,
}

/// How an attempt at a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Another thread has the worker.
    Busy,
    /// It was done, and something waits again.
    Left,
    /// It was done. The keeper waits for that, or is to wait less long.
    Wake,
    /// It was done, or there is no worker.
    Done,
}

impl<W: Worker> Executor<W> {
    /// Without a worker, at the beginning of its time.
    pub fn new() -> Arc<Executor<W>> {
        Arc::new(Executor {
            clock: Clock::default(),
            events: Queue::new(),
            worker: Mutex::new(None),
            due_ms: AtomicU64::new(u64::MAX),
            worked_us: AtomicU64::new(0),
            load: AtomicUsize::new(0),
            overdue: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            keeper: OnceLock::new(),
            #[cfg(test)]
            looks: Default::default(),
        })
    }

    /// Puts the worker in, which is due at once. Events may have come before it.
    pub fn begin(&self, worker: W) {
        let mut slot = self.worker.lock();
        *slot = Some(worker);
        self.due_ms.store(0, Ordering::Release);
        drop(slot);
        self.wake_keeper();
    }

    /// Milliseconds since the executor was made.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_us() / 1000
    }

    /// Brings an event, and does a round; under load the keeper does it.
    ///
    /// # Errors
    /// The executor has stopped. The event is dropped, unless the last round took it.
    pub fn send(&self, event: W::Event) -> Result<(), Stopped> {
        self.leave(event)?;
        self.drive_if_calm();
        Ok(())
    }

    /// Brings an event for the next round, whenever that comes: at the latest after a second.
    ///
    /// # Errors
    /// As `send`'s.
    pub fn leave(&self, event: W::Event) -> Result<(), Stopped> {
        if self.is_stopped() {
            return Err(Stopped);
        }
        self.events.push(event);
        // If this thread finds a combiner or no stop from here on, these find the event.
        fence(Ordering::SeqCst);
        if self.is_stopped() {
            while self.next_event().is_some() {}
            return Err(Stopped);
        }
        Ok(())
    }

    /// Does a round for what this thread has left, or, when rounds with much to do follow each
    /// other closely, has the keeper do it.
    pub fn drive_if_calm(&self) {
        if self.worker.is_locked() {
            return;
        }
        if self.is_crowded() || matches!(self.round(), Round::Left | Round::Wake) {
            self.wake_keeper();
        }
    }

    /// The oldest event that no round has taken: for what stands in for a worker.
    pub fn next_event(&self) -> Option<W::Event> {
        self.events.pop()
    }

    /// Keeps the time, on the calling thread, until the executor stops.
    pub fn keep_time(&self) {
        let _ = self.keeper.set(sync::current());
        // What was left when there was no keeper to wake is seen here.
        fence(Ordering::SeqCst);
        while !self.is_stopped() {
            #[cfg(test)]
            self.looks.fetch_add(1, Ordering::Relaxed);
            if self.round() != Round::Left {
                self.rest();
            }
        }
    }

    /// Stops for good, after the round that is under way. Returns the worker, once, and the events
    /// that no round has taken.
    pub fn stop(&self) -> (Option<W>, Vec<W::Event>) {
        let mut slot = self.worker.lock();
        let worker = slot.take();
        let events = std::iter::from_fn(|| self.next_event());
        let mut left: Vec<_> = events.collect();
        self.stopped.store(true, Ordering::Release);
        drop(slot);
        fence(Ordering::SeqCst);
        left.extend(std::iter::from_fn(|| self.next_event()));
        self.wake_keeper();
        (worker, left)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn is_crowded(&self) -> bool {
        let worked_us = || self.worked_us.load(Ordering::Relaxed);
        let lately = || self.clock.now_us().saturating_sub(worked_us()) < W::CROWD_US;
        W::CROWD <= self.load.load(Ordering::Relaxed) && lately()
    }

    fn waits(&self) -> bool {
        !self.events.is_empty() || self.due_ms.load(Ordering::Acquire) <= self.now_ms()
    }

    /// One round of the worker, if there is something to do and no other thread is at it.
    fn round(&self) -> Round {
        let Some(mut slot) = self.worker.try_lock() else {
            return Round::Busy;
        };
        let Some(worker) = slot.as_mut() else {
            return Round::Done;
        };
        let is_earlier = self.waits() && self.work(worker);
        drop(slot);
        // What others left because this thread had the worker must be seen here.
        fence(Ordering::SeqCst);
        if self.waits() {
            Round::Left
        } else if is_earlier || self.overdue.load(Ordering::Relaxed) {
            Round::Wake
        } else {
            Round::Done
        }
    }

    /// Returns whether the next round is due earlier than before.
    fn work(&self, worker: &mut W) -> bool {
        let now_ms = self.now_ms();
        let work = AssertUnwindSafe(|| worker.work(now_ms, Events(&self.events)));
        // The thread that brought an event has no part in what the worker does of it.
        let worked = catch_unwind(work).unwrap_or_else(|_| {
            worker.panicked();
            Worked {
                load: 0,
                due_ms: u64::MAX,
            }
        });
        self.load.store(worked.load, Ordering::Relaxed);
        self.worked_us.store(self.clock.now_us(), Ordering::Relaxed);
        let before = self.due_ms.swap(worked.due_ms, Ordering::AcqRel);
        worked.due_ms < before
    }

    fn wake_keeper(&self) {
        if let Some(thread) = self.keeper.get() {
            thread.unpark();
        }
    }

    /// The keeper waits until something is due, or a combiner wakes it.
    fn rest(&self) {
        let due_ms = self.due_ms.load(Ordering::Acquire);
        let patience = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        if !patience.is_zero() {
            return self.clock.park(patience.min(IDLE));
        }
        // Something is due already. A combiner that is at it does it, or leaves it to this thread:
        // looking again and again meanwhile would only take its processor away.
        self.overdue.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.worker.is_locked() {
            self.clock.park(IDLE);
        }
        self.overdue.store(false, Ordering::Relaxed);
    }
}
