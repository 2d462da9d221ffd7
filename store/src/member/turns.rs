//! Whoever brings work does it.
//!
//! A member is two things with one owner at a time each: the driver (consensus) and the applier (the
//! state machine). Handing every event to a thread of their own would cost a wake-up a hop, and a
//! lone request has five of them. So a thread that brings an event tries the owner's lock: free, it
//! runs the turn itself; taken, it leaves the event to the holder, who looks again before it goes.
//! A thread of the member's own keeps the time, and goes on where others have done their share.
//!
//! Under load it is the other way around: a turn for every event would keep events from sharing one.
//! When the last turn was a moment ago, the event is left to the member's own thread, which takes all
//! that has come by the time it wakes.
//!
//! The locks are only ever tried, but for a snapshot's installation, which waits for the applier while
//! it holds the driver: no one waits the other way around. Turns run no IO; what waits for a disk or
//! a peer has threads and tasks of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use parking_lot::{Mutex, MutexGuard};

use super::applier::{Applier, ApplyJob};
use super::driver::{Driver, Event};

/// The member has stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// Turns closer than this are a load, in microseconds: less than a disk takes for one sync.
const CALM_US: u64 = 80;
/// Rounds that a thread runs on behalf of others before the member's own thread goes on.
const ROUNDS_MAX: usize = 8;
/// Without anything to wait for, the member's thread looks again after this long.
const IDLE: Duration = Duration::from_secs(1);

/// The two owners, and what waits for them. Shared by everything that brings work.
pub(crate) struct Turns {
    began: Instant,
    events: SegQueue<Event>,
    jobs: SegQueue<ApplyJob>,
    driver: Mutex<Option<Driver>>,
    applier: Mutex<Option<Applier>>,
    /// When the driver and the applier want to be called again, in milliseconds since `began`.
    driver_due: AtomicU64,
    applier_due: AtomicU64,
    /// When the last turn ended, in microseconds since `began`.
    turned_us: AtomicU64,
    stopped: AtomicBool,
    timekeeper: OnceLock<Thread>,
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
            turned_us: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            timekeeper: OnceLock::new(),
        })
    }

    /// Puts the owners in. Events may have come before them.
    pub(crate) fn begin(&self, driver: Driver, applier: Applier) {
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
        let since = self
            .now_us()
            .saturating_sub(self.turned_us.load(Ordering::Relaxed));
        match since < CALM_US {
            true => self.wake_timekeeper(),
            false => self.drive(),
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
    pub(crate) fn leave_job(&self, job: ApplyJob) {
        self.jobs.push(job);
    }

    /// Brings a job for the applier, and does it if nobody else is at it.
    pub(crate) fn send_job(&self, job: ApplyJob) {
        self.jobs.push(job);
        self.drive();
    }

    /// The next event, for the driver.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.events.pop()
    }

    /// Does what there is to do, unless others are at it.
    fn drive(&self) {
        for _ in 0..ROUNDS_MAX {
            // What this thread left must be seen by a holder whose lock it finds taken below.
            fence(Ordering::SeqCst);
            let turned = self.try_turn();
            let applied = self.try_apply();
            // And what others left while this thread held a lock must be seen here.
            fence(Ordering::SeqCst);
            if !turned && !applied {
                // Whoever holds the locks looks again.
                return;
            }
            if !self.driver_waits() && !self.applier_waits() {
                return;
            }
        }
        self.wake_timekeeper();
    }

    fn driver_waits(&self) -> bool {
        !self.events.is_empty() || self.driver_due.load(Ordering::Acquire) <= self.now_ms()
    }

    fn applier_waits(&self) -> bool {
        !self.jobs.is_empty() || self.applier_due.load(Ordering::Acquire) <= self.now_ms()
    }

    /// Runs the driver's turn. False if another thread has it.
    fn try_turn(&self) -> bool {
        let Some(mut driver) = self.driver.try_lock() else {
            return false;
        };
        let Some(driver) = driver.as_mut() else {
            return false;
        };
        if self.driver_waits() {
            let due = driver.turn(self);
            self.turned_us.store(self.now_us(), Ordering::Relaxed);
            self.note_due(&self.driver_due, due);
        }
        true
    }

    /// Runs the applier. False if another thread is at it.
    fn try_apply(&self) -> bool {
        let Some(mut applier) = self.applier.try_lock() else {
            return false;
        };
        let Some(applier) = applier.as_mut() else {
            return false;
        };
        if self.applier_waits() {
            let due = applier.work(&self.jobs, self.now_ms());
            self.note_due(&self.applier_due, due);
        }
        true
    }

    /// The applier, with nothing left in its queue: for a snapshot's installation.
    pub(crate) fn applier_for_install(&self) -> MutexGuard<'_, Option<Applier>> {
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
            let patience = Duration::from_millis(due.saturating_sub(self.now_ms()));
            if !patience.is_zero() {
                std::thread::park_timeout(patience.min(IDLE));
            }
            self.drive();
        }
    }

    /// Stops the driver for good and takes the applier out, with everything committed applied.
    pub(crate) fn stop(&self) -> Option<Applier> {
        self.stopped.store(true, Ordering::Release);
        drop(self.driver.lock().take());
        self.wake_timekeeper();
        while self.events.pop().is_some() {}
        let mut applier = self.applier_for_install();
        applier.take()
    }
}
