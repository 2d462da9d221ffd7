//! Whoever brings work does it.
//!
//! A member is two things with one owner at a time each: the driver (consensus) and the applier (the
//! state machine). Handing every event to a thread of their own would cost a wake-up a hop, and a
//! lone request has five of them. So a thread that brings an event takes the turn itself when nobody
//! is at it; otherwise it leaves the event to the one who is, who looks again before he goes. A thread
//! of the member's own keeps the time, and goes on where another has done one round.
//!
//! Under load a turn for every event would keep events from sharing one. So when the last turn had much
//! to do, the next event is left to the member's own thread, which takes all that has come by
//! the time it wakes.
//!
//! One thread at a time is `busy`, so the two locks are free but when the member stops. A snapshot's
//! installation holds both, the driver's first. Turns run no IO; what waits for a disk or a peer has
//! threads and tasks of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use keelson_core::member::Work;
use parking_lot::{Mutex, MutexGuard};

use super::applier::ApplierShell;
use super::driver::{Driver, Event};
use super::fatal::Fatal;

/// The member has stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// So much to do in one turn is a load: a lone request never makes more than three...
const CROWD: usize = 5;
/// ...for this many microseconds: under load turns are a millisecond or two apart.
const LOAD_US: u64 = 10_000;
/// Rounds that the member's thread runs before it looks at the time again.
const ROUNDS_MAX: usize = 64;
/// Without anything to wait for, the member's thread looks again after this long.
const IDLE: Duration = Duration::from_secs(1);

/// The two owners, and what waits for them. Shared by everything that brings work.
pub(crate) struct Turns {
    began: Instant,
    events: SegQueue<Event>,
    jobs: SegQueue<Work>,
    driver: Mutex<Option<Driver>>,
    applier: Mutex<Option<ApplierShell>>,
    /// When the driver and the applier want to be called again, in milliseconds since `began`.
    driver_due: AtomicU64,
    applier_due: AtomicU64,
    /// When somebody last finished, in microseconds since `began`.
    driven_us: AtomicU64,
    /// How much the last turn had to do: inputs and entries.
    crowd: AtomicUsize,
    /// Some thread is at it.
    busy: AtomicBool,
    /// The timekeeper waits for the thread that is at it.
    overdue: AtomicBool,
    stopped: AtomicBool,
    timekeeper: OnceLock<Thread>,
    /// Ends the member if a turn panics.
    fatal: OnceLock<Fatal>,
    /// How often the timekeeper has looked.
    #[cfg(test)]
    looks: AtomicU64,
}

impl Turns {
    pub(crate) fn new() -> Arc<Turns> {
        Arc::new(Turns {
            began: Instant::now(),
            events: SegQueue::new(),
            jobs: SegQueue::new(),
            driver: Mutex::new(None),
            applier: Mutex::new(None),
            driver_due: AtomicU64::new(0),
            applier_due: AtomicU64::new(0),
            driven_us: AtomicU64::new(0),
            crowd: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            timekeeper: OnceLock::new(),
            fatal: OnceLock::new(),
            #[cfg(test)]
            looks: AtomicU64::new(0),
        })
    }

    /// Puts the owners in. Events may have come before them.
    pub(crate) fn begin(&self, driver: Driver, applier: ApplierShell) {
        let _ = self.fatal.set(driver.fatal.clone());
        *self.driver.lock() = Some(driver);
        *self.applier.lock() = Some(applier);
    }

    /// Milliseconds since the member began: the core's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("half a billion years")
    }

    /// Brings an event, and takes the turn if nobody else has it.
    pub(crate) fn send(&self, event: Event) -> Result<(), Stopped> {
        self.leave(event)?;
        self.drive_if_calm();
        Ok(())
    }

    /// Takes the turn, or, when turns follow each other closely, leaves it to the member's thread.
    pub(crate) fn drive_if_calm(&self) {
        fence(Ordering::SeqCst);
        if self.busy.load(Ordering::Acquire) {
            return;
        }
        let driven_us = self.driven_us.load(Ordering::Relaxed);
        let lately = self.now_us().saturating_sub(driven_us) < LOAD_US;
        if lately && CROWD <= self.crowd.load(Ordering::Relaxed) {
            self.wake_timekeeper();
        } else {
            self.drive(1);
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("half a million years")
    }

    /// Brings an event for whoever has the turn, or takes it next.
    pub(crate) fn leave(&self, event: Event) -> Result<(), Stopped> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(Stopped);
        }
        self.events.push(event);
        Ok(())
    }

    /// Brings a job for the applier, for whoever has the turn or takes it next.
    pub(crate) fn leave_job(&self, job: Work) {
        self.jobs.push(job);
    }

    /// Brings a job for the applier, and does it if nobody else is at it.
    pub(crate) fn send_job(&self, job: Work) {
        self.jobs.push(job);
        self.drive_if_calm();
    }

    /// The next event, for the driver.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.events.pop()
    }

    /// Does what there is to do, unless another thread is at it: that one looks again before it goes.
    fn drive(&self, rounds: usize) {
        for _ in 0..rounds {
            // What this thread left must be seen by whoever is busy, if the swap finds somebody.
            fence(Ordering::SeqCst);
            if self.busy.swap(true, Ordering::AcqRel) {
                return;
            }
            match self.fatal.get() {
                Some(fatal) => fatal.guard("a turn", || self.turn_and_apply()),
                None => self.turn_and_apply(),
            }
            self.driven_us.store(self.now_us(), Ordering::Relaxed);
            self.busy.store(false, Ordering::Release);
            // And what others left while this thread was busy must be seen here.
            fence(Ordering::SeqCst);
            if self.overdue.load(Ordering::Relaxed) {
                self.wake_timekeeper();
            }
            if !self.driver_waits() && !self.applier_waits() {
                return;
            }
        }
        self.wake_timekeeper();
    }

    fn turn_and_apply(&self) {
        self.turn();
        self.apply();
    }

    fn driver_waits(&self) -> bool {
        !self.events.is_empty() || self.driver_due.load(Ordering::Acquire) <= self.now_ms()
    }

    fn applier_waits(&self) -> bool {
        !self.jobs.is_empty() || self.applier_due.load(Ordering::Acquire) <= self.now_ms()
    }

    fn turn(&self) {
        if let Some(driver) = self.driver.lock().as_mut().filter(|_| self.driver_waits()) {
            let (work, due) = driver.turn(self);
            self.crowd.store(work, Ordering::Relaxed);
            self.note_due(&self.driver_due, due);
        }
    }

    fn apply(&self) {
        if let Some(applier) = self
            .applier
            .lock()
            .as_mut()
            .filter(|_| self.applier_waits())
        {
            let due = applier.work(&self.jobs, self.now_ms());
            self.note_due(&self.applier_due, due);
        }
    }

    /// The applier, with nothing left in its queue: for a snapshot's installation.
    pub(crate) fn applier_for_install(&self) -> MutexGuard<'_, Option<ApplierShell>> {
        let mut applier = self.applier.lock();
        if let Some(applier) = applier.as_mut() {
            applier.work(&self.jobs, self.now_ms());
        }
        applier
    }

    fn note_due(&self, slot: &AtomicU64, due_ms: u64) {
        let before = slot.swap(due_ms, Ordering::AcqRel);
        if due_ms < before {
            self.wake_timekeeper();
        }
    }

    fn wake_timekeeper(&self) {
        if let Some(thread) = self.timekeeper.get() {
            thread.unpark();
        }
    }

    /// The member's own thread: it keeps the time. Runs until the member stops.
    pub(crate) fn keep_time(&self) {
        let _ = self.timekeeper.set(std::thread::current());
        while !self.stopped.load(Ordering::Acquire) {
            let due = self.driver_due.load(Ordering::Acquire);
            let due = due.min(self.applier_due.load(Ordering::Acquire));
            #[cfg(test)]
            self.looks.fetch_add(1, Ordering::Relaxed);
            let patience = Duration::from_millis(due.saturating_sub(self.now_ms()));
            match patience.is_zero() {
                true => self.wait_for_the_busy(),
                false => std::thread::park_timeout(patience.min(IDLE)),
            }
            self.drive(ROUNDS_MAX);
        }
    }

    /// Something is due already. If another thread is at it, it is done there or left to this thread
    /// when that one goes: looking again and again meanwhile would only take its processor away.
    fn wait_for_the_busy(&self) {
        self.overdue.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.busy.load(Ordering::Acquire) {
            std::thread::park_timeout(IDLE);
        }
        self.overdue.store(false, Ordering::Relaxed);
    }

    /// Stops the driver for good and takes the applier out, with everything committed applied.
    pub(crate) fn stop(&self) -> Option<ApplierShell> {
        self.stopped.store(true, Ordering::Release);
        drop(self.driver.lock().take());
        self.wake_timekeeper();
        while self.events.pop().is_some() {}
        let mut applier = self.applier_for_install();
        applier.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are due at once here, as long as there is neither.
    #[test]
    fn the_timekeeper_sleeps_while_another_thread_is_at_it() {
        let turns = Turns::new();
        turns.busy.store(true, Ordering::SeqCst);
        let keeper = std::thread::spawn({
            let turns = Arc::clone(&turns);
            move || turns.keep_time()
        });
        while turns.looks.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        (0..20_000).for_each(|_| std::thread::yield_now());
        let looks = turns.looks.load(Ordering::SeqCst);
        turns.stopped.store(true, Ordering::SeqCst);
        turns.wake_timekeeper();
        keeper.join().expect("it ends");
        assert!(looks < 100, "it looked {looks} times");
    }

    #[test]
    fn the_timekeeper_goes_on_when_the_other_thread_goes() {
        let turns = Turns::new();
        turns.driver_due.store(u64::MAX, Ordering::SeqCst);
        turns.busy.store(true, Ordering::SeqCst);
        let keeper = std::thread::spawn({
            let turns = Arc::clone(&turns);
            move || turns.keep_time()
        });
        while !turns.overdue.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        // As `drive` ends, with nothing due any more that it can see.
        turns
            .applier_due
            .store(turns.now_ms() + 1, Ordering::SeqCst);
        turns.busy.store(false, Ordering::SeqCst);
        turns.drive(1);
        while turns.looks.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        turns.stopped.store(true, Ordering::SeqCst);
        turns.wake_timekeeper();
        keeper.join().expect("it ends");
    }
}
