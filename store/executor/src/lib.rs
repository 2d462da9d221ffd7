//! An executor that runs one worker on the threads that bring it events: flat combining (Hendler,
//! Incze, Shavit and Tzafrir, SPAA 2010).
//!
//! There is one queue of events, one slot for the worker, and one due time. A thread that brings an
//! event becomes the combiner if no other thread is: it takes the worker, which processes the
//! queued events. Otherwise the event stays queued for the current combiner, which checks the queue
//! again after it has released the slot. So an event costs no wake-up while the worker is free. The
//! timer thread runs the worker at its due time, and whenever a combiner has done one round and
//! events are left.
//!
//! Under load, a round per event would prevent events from sharing one. So after a round with a
//! high load the next event is left to the timer thread, which takes all events that are queued
//! when it wakes.
//!
//! The crate is separate from its user because its unit tests alone are built on shuttle's
//! primitives (`modelled.rs`), which explore how the threads interleave.

#[cfg_attr(test, path = "modelled.rs")]
mod sync;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sync::{AtomicBool, AtomicU64, AtomicUsize, Clock, Mutex, Queue, Thread, fence};

/// The timer thread checks the queue after this time if there is no due time.
const IDLE: Duration = Duration::from_secs(1);

/// What an executor runs, on one thread at a time.
pub trait Worker {
    /// An event for the worker.
    type Event;

    /// A round with at least this load counts as busy: the next event is left to the timer thread,
    const BUSY_LOAD: usize;

    /// if that round ended less than this time ago, in microseconds.
    const BUSY_US: u64;

    /// Processes events, at least one if there are any, and does what is due. `now_ms` is the time
    /// in milliseconds of the executor's clock.
    fn work(&mut self, now_ms: u64, events: Events<'_, Self::Event>) -> RoundOutcome;

    /// `work` has panicked and left an operation incomplete. It is called again, but must only drop
    /// its events.
    fn panicked(&mut self);
}

/// The queued events, oldest first.
pub struct Events<'a, E>(&'a Queue<E>);

impl<E> Iterator for Events<'_, E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        self.0.pop()
    }
}

/// The outcome of a round.
#[derive(Clone, Copy, Debug)]
pub struct RoundOutcome {
    /// The amount of work of the round; see `Worker::BUSY_LOAD`.
    pub load: usize,
    /// The due time of the next round, in milliseconds of the executor's clock; `u64::MAX` for
    /// none.
    pub due_ms: u64,
}

/// The executor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A worker and its queue, shared by all threads that bring events.
pub struct Executor<W: Worker> {
    clock: Clock,
    events: Queue<W::Event>,
    worker: Mutex<Option<W>>,
    due_ms: AtomicU64,
    /// The end of the last round, in microseconds of the clock.
    ended_us: AtomicU64,
    /// The load of the last round.
    load: AtomicUsize,
    /// Whether the timer thread waits for the combiner.
    overdue: AtomicBool,
    stopped: AtomicBool,
    timer: OnceLock<Thread>,
    /// The number of iterations of the timer thread.
    #[cfg(test)]
    timer_checks: std::sync::atomic::AtomicU64,
}

/// The result of an attempt at a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Another thread has the worker.
    Busy,
    /// The round is done, and events are queued again.
    Left,
    /// The round is done. The timer thread waits for it, or must wake earlier than planned.
    Wake,
    /// The round is done, or there is no worker.
    Done,
}

impl<W: Worker> Executor<W> {
    /// An executor without a worker, whose clock starts now.
    pub fn new() -> Arc<Executor<W>> {
        Arc::new(Executor {
            clock: Clock::default(),
            events: Queue::new(),
            worker: Mutex::new(None),
            due_ms: AtomicU64::new(u64::MAX),
            ended_us: AtomicU64::new(0),
            load: AtomicUsize::new(0),
            overdue: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            timer: OnceLock::new(),
            #[cfg(test)]
            timer_checks: Default::default(),
        })
    }

    /// Installs the worker, which is due at once. Events may have been queued before.
    pub fn start(&self, worker: W) {
        let mut slot = self.worker.lock();
        *slot = Some(worker);
        self.due_ms.store(0, Ordering::Release);
        drop(slot);
        self.wake_timer();
    }

    /// Milliseconds since the executor was created.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_us() / 1000
    }

    /// Queues an event and runs a round; under load the timer thread runs it.
    ///
    /// # Errors
    /// The executor has stopped. The event is dropped, unless the last round took it.
    pub fn send(&self, event: W::Event) -> Result<(), Stopped> {
        self.enqueue(event)?;
        self.drive_unless_busy();
        Ok(())
    }

    /// Queues an event for the next round, which comes after a second at the latest.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn enqueue(&self, event: W::Event) -> Result<(), Stopped> {
        if self.is_stopped() {
            return Err(Stopped);
        }
        self.events.push(event);
        // If this thread sees no combiner or no stop from here on, those threads see the event.
        fence(Ordering::SeqCst);
        if self.is_stopped() {
            while self.next_event().is_some() {}
            return Err(Stopped);
        }
        Ok(())
    }

    /// Runs a round for the events that this thread has queued. If rounds with a high load follow
    /// each other closely, it wakes the timer thread instead.
    pub fn drive_unless_busy(&self) {
        if self.worker.is_locked() {
            return;
        }
        if self.is_busy() || matches!(self.round(), Round::Left | Round::Wake) {
            self.wake_timer();
        }
    }

    /// The oldest queued event, for a test that replaces the worker.
    pub fn next_event(&self) -> Option<W::Event> {
        self.events.pop()
    }

    /// Runs the timer on the calling thread until the executor stops.
    pub fn run_timer(&self) {
        let _ = self.timer.set(sync::current());
        // Events that were queued before the timer thread existed are seen here.
        fence(Ordering::SeqCst);
        while !self.is_stopped() {
            #[cfg(test)]
            self.timer_checks.fetch_add(1, Ordering::Relaxed);
            if self.round() != Round::Left {
                self.wait_for_due();
            }
        }
    }

    /// Stops permanently, after the current round. Returns the worker, once, and the events that no
    /// round has taken.
    pub fn stop(&self) -> (Option<W>, Vec<W::Event>) {
        let mut slot = self.worker.lock();
        let worker = slot.take();
        let events = std::iter::from_fn(|| self.next_event());
        let mut left: Vec<_> = events.collect();
        self.stopped.store(true, Ordering::Release);
        drop(slot);
        fence(Ordering::SeqCst);
        left.extend(std::iter::from_fn(|| self.next_event()));
        self.wake_timer();
        (worker, left)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn is_busy(&self) -> bool {
        let ended_us = || self.ended_us.load(Ordering::Relaxed);
        let lately = || self.clock.now_us().saturating_sub(ended_us()) < W::BUSY_US;
        W::BUSY_LOAD <= self.load.load(Ordering::Relaxed) && lately()
    }

    fn waits(&self) -> bool {
        !self.events.is_empty() || self.due_ms.load(Ordering::Acquire) <= self.now_ms()
    }

    /// Runs one round of the worker, if there is work and no other thread runs one.
    fn round(&self) -> Round {
        let Some(mut slot) = self.worker.try_lock() else {
            return Round::Busy;
        };
        let Some(worker) = slot.as_mut() else {
            return Round::Done;
        };
        let is_earlier = self.waits() && self.work(worker);
        drop(slot);
        // Events that other threads queued while this thread had the worker must be seen here.
        fence(Ordering::SeqCst);
        if self.waits() {
            Round::Left
        } else if is_earlier || self.overdue.load(Ordering::Relaxed) {
            Round::Wake
        } else {
            Round::Done
        }
    }

    /// Runs the worker. Returns whether the next round is due earlier than before.
    fn work(&self, worker: &mut W) -> bool {
        let now_ms = self.now_ms();
        let work = AssertUnwindSafe(|| worker.work(now_ms, Events(&self.events)));
        // A panic of the worker must not unwind into the thread that brought an event.
        let worked = catch_unwind(work).unwrap_or_else(|_| {
            worker.panicked();
            RoundOutcome {
                load: 0,
                due_ms: u64::MAX,
            }
        });
        self.load.store(worked.load, Ordering::Relaxed);
        self.ended_us.store(self.clock.now_us(), Ordering::Relaxed);
        let before = self.due_ms.swap(worked.due_ms, Ordering::AcqRel);
        worked.due_ms < before
    }

    fn wake_timer(&self) {
        if let Some(thread) = self.timer.get() {
            thread.unpark();
        }
    }

    /// Blocks the timer thread until the due time, or until a combiner wakes it.
    fn wait_for_due(&self) {
        let due_ms = self.due_ms.load(Ordering::Acquire);
        let patience = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        if !patience.is_zero() {
            return self.clock.park(patience.min(IDLE));
        }
        // A round is already due. The current combiner runs it, or leaves it to this thread; a busy
        // loop would only take the processor from the combiner.
        self.overdue.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.worker.is_locked() {
            self.clock.park(IDLE);
        }
        self.overdue.store(false, Ordering::Relaxed);
    }
}
