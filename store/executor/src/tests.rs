//! Each test runs some thousand times, each time with another interleaving of its threads.

use std::panic::resume_unwind;
use std::sync::atomic::AtomicBool;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};

use super::*;

/// The number of interleavings of a test per scheduler. They are reproducible; a failure prints its
/// own.
const ORDERS: usize = 1500;
const SEED: u64 = 13;
/// The maximum number of scheduling points of an interleaving.
const STEPS_MAX: usize = 2000;

/// Runs `test` under two schedulers: random, and priorities with few changes (PCT).
fn explore(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    let again = Arc::clone(&test);
    let mut config = Config::new();
    // A thread that loops without progress is a failure.
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    let random = RandomScheduler::new_from_seed(SEED, ORDERS);
    Runner::new(random, config.clone()).run(move || again());
    let priorities = PctScheduler::new_from_seed(SEED, 3, ORDERS);
    Runner::new(priorities, config).run(move || test());
}

/// What the worker does with an event; it reports the number of each event it has taken.
#[derive(Clone, Debug)]
enum Event {
    /// A number, and the load of the event.
    Load(usize, usize),
    /// A number, and the due time of the next round.
    Due(usize, u64),
    /// A number, and how often the worker yields to other threads meanwhile.
    Slow(usize, usize),
    Panic(usize),
    /// An event that is only dropped.
    Counted(#[expect(dead_code, reason = "its count is checked")] Arc<()>),
}

/// The worker's reports: the number of an event, or `DUE`.
type Reports = Receiver<usize>;
/// A round has run at the time given by `Event::Due`.
const DUE: usize = 1000;

struct Scripted {
    reports: Sender<usize>,
    /// Whether a thread is in `work`.
    inside: Arc<AtomicBool>,
    due_ms: u64,
    has_panicked: bool,
}

impl Scripted {
    fn take(&mut self, event: Event) -> usize {
        let (number, load) = match event {
            Event::Load(number, load) => (number, load),
            Event::Due(number, due_ms) => {
                self.due_ms = due_ms;
                (number, 1)
            }
            Event::Slow(number, yields) => {
                (0..yields).for_each(|_| thread::yield_now());
                (number, 1)
            }
            // Suppresses the panic message, which would be printed some thousand times.
            Event::Panic(number) if !self.has_panicked => resume_unwind(Box::new(number)),
            Event::Panic(number) => (number, 0),
            Event::Counted(_) => return 1,
        };
        let _ = self.reports.send(number);
        load
    }
}

impl Worker for Scripted {
    type Event = Event;

    const BUSY_LOAD: usize = 5;
    const BUSY_US: u64 = 10_000;

    fn work(&mut self, now_ms: u64, events: Events<'_, Event>) -> RoundOutcome {
        let inside = self.inside.swap(true, Ordering::SeqCst);
        assert!(!inside, "two threads have the worker");
        if self.due_ms <= now_ms {
            let _ = self.reports.send(DUE);
            self.due_ms = u64::MAX;
        }
        thread::yield_now();
        // At most two, so that events are left at times.
        let load = events.take(2).map(|event| self.take(event)).sum();
        self.inside.store(false, Ordering::SeqCst);
        RoundOutcome {
            load,
            due_ms: self.due_ms,
        }
    }

    fn panicked(&mut self) {
        assert!(!self.has_panicked, "once");
        self.has_panicked = true;
        self.inside.store(false, Ordering::SeqCst);
        let _ = self.reports.send(PANICKED);
    }
}

const PANICKED: usize = 1001;

type Tested = Arc<Executor<Scripted>>;

fn worker() -> (Scripted, Reports) {
    let (reports, reported) = channel();
    let worker = Scripted {
        reports,
        inside: Arc::default(),
        due_ms: u64::MAX,
        has_panicked: false,
    };
    (worker, reported)
}

/// An executor with its worker and its timer thread, which may be at any point.
fn running() -> (Tested, Reports, JoinHandle<()>) {
    let executor = Executor::new();
    let (worker, reports) = worker();
    executor.start(worker);
    let timer = timer(&executor);
    (executor, reports, timer)
}

fn timer(executor: &Tested) -> JoinHandle<()> {
    let executor = Arc::clone(executor);
    thread::spawn(move || executor.run_timer())
}

fn sender(executor: &Tested, events: Vec<Event>) -> JoinHandle<()> {
    let executor = Arc::clone(executor);
    thread::spawn(move || {
        for event in events {
            executor.send(event).expect("it runs");
        }
    })
}

/// Waits for that many reports; a missing one is a deadlock.
fn wait_for(reports: &Reports, count: usize) -> Vec<usize> {
    (0..count)
        .map(|_| reports.recv().expect("a worker"))
        .collect()
}

fn end(
    executor: &Tested,
    senders: impl IntoIterator<Item = JoinHandle<()>>,
    timer: JoinHandle<()>,
) {
    for sender in senders {
        sender.join().expect("no panic");
    }
    let (worker, left) = executor.stop();
    assert!(worker.is_some() && left.is_empty());
    timer.join().expect("no panic");
}

#[test]
fn every_event_that_is_sent_is_taken_by_some_thread() {
    explore(|| {
        let (executor, reports, timer) = running();
        let one = sender(&executor, vec![Event::Load(0, 1), Event::Load(1, 1)]);
        let two = sender(&executor, vec![Event::Load(2, 1), Event::Load(3, 1)]);
        executor.send(Event::Load(4, 1)).expect("it runs");
        let mut taken = wait_for(&reports, 5);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        end(&executor, [one, two], timer);
    });
}

#[test]
fn every_event_that_is_left_to_the_keeper_is_taken() {
    explore(|| {
        let (executor, reports, timer) = running();
        let one = sender(&executor, vec![Event::Load(0, 9), Event::Load(1, 9)]);
        let two = sender(&executor, vec![Event::Load(2, 9), Event::Load(3, 1)]);
        wait_for(&reports, 4);
        end(&executor, [one, two], timer);
    });
}

/// The log's thread queues an event so, after it has sent the messages that waited for the log.
#[test]
fn every_event_that_is_left_and_driven_is_taken() {
    explore(|| {
        let (executor, reports, timer) = running();
        let one = sender(&executor, vec![Event::Load(0, 1), Event::Load(1, 9)]);
        executor.enqueue(Event::Load(2, 1)).expect("it runs");
        executor.enqueue(Event::Load(3, 1)).expect("it runs");
        executor.drive_unless_busy();
        wait_for(&reports, 4);
        end(&executor, [one], timer);
    });
}

#[test]
fn what_comes_before_the_worker_is_taken() {
    explore(|| {
        let executor = Executor::new();
        let timer = timer(&executor);
        let one = sender(&executor, vec![Event::Load(0, 1)]);
        let (worker, reports) = worker();
        executor.start(worker);
        wait_for(&reports, 1);
        end(&executor, [one], timer);
    });
}

#[test]
fn a_due_time_that_another_thread_sets_is_kept() {
    explore(|| {
        let (executor, reports, timer) = running();
        let one = sender(&executor, vec![Event::Due(0, 50)]);
        let two = sender(&executor, vec![Event::Load(1, 1), Event::Due(2, 20)]);
        let mut taken = wait_for(&reports, 4);
        taken.sort_unstable();
        // Both came in one round, or in two.
        assert_eq!(taken, [0, 1, 2, DUE]);
        end(&executor, [one, two], timer);
    });
}

/// The timer thread would take the combiner's processor.
#[test]
fn the_keeper_sleeps_while_another_thread_is_at_what_is_due() {
    explore(|| {
        let (executor, reports, timer) = running();
        executor
            .send(Event::Due(0, executor.now_ms()))
            .expect("it runs");
        executor.send(Event::Slow(1, 30)).expect("it runs");
        wait_for(&reports, 3);
        let timer_checks = executor.timer_checks.load(Ordering::SeqCst);
        let parks = executor.clock.parks.load(Ordering::SeqCst);
        assert!(timer_checks <= parks + 6, "{timer_checks} checks");
        end(&executor, [], timer);
    });
}

/// The timer thread waits for the combiner, and the next due time is later: unless the combiner
/// wakes it, it would sleep on.
#[test]
fn the_keeper_goes_on_when_the_other_thread_is_done() {
    explore(|| {
        let (executor, reports, timer) = running();
        // The worker is due at its start, when the timer thread may find it in use.
        executor.send(Event::Due(0, 30)).expect("it runs");
        assert_eq!(wait_for(&reports, 2), [0, DUE]);
        end(&executor, [], timer);
    });
}

#[test]
fn the_worker_is_taken_out_once_and_what_is_left_is_dropped() {
    explore(|| {
        let (executor, _reports, timer) = running();
        let counted = Arc::new(());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let executor = Arc::clone(&executor);
                let counted = Arc::clone(&counted);
                thread::spawn(move || {
                    for _ in 0..2 {
                        let _ = executor.send(Event::Counted(Arc::clone(&counted)));
                    }
                })
            })
            .collect();
        let other = Arc::clone(&executor);
        let other = thread::spawn(move || other.stop().0.is_some());
        let mine = executor.stop().0.is_some();
        let other = other.join().expect("no panic");
        assert!(mine != other, "one of them has the worker");
        for thread in senders.into_iter().chain([timer]) {
            thread.join().expect("no panic");
        }
        assert_eq!(Arc::strong_count(&counted), 1, "an event is kept");
        let late = executor.send(Event::Counted(counted));
        assert_eq!(late, Err(Stopped));
    });
}

/// Events that were queued before the stop may matter to the worker's end.
#[test]
fn the_stop_returns_the_events_that_were_left_before_it() {
    explore(|| {
        let (executor, reports, timer) = running();
        let one = sender(&executor, vec![Event::Load(0, 1)]);
        one.join().expect("no panic");
        executor.enqueue(Event::Load(1, 1)).expect("it runs");
        let late = Arc::clone(&executor);
        let late = thread::spawn(move || {
            let _ = late.send(Event::Load(2, 1));
        });
        let (worker, left) = executor.stop();
        drop(worker);
        let taken = std::iter::from_fn(|| reports.recv().ok());
        let of_rounds = taken.filter(|number| *number < 2).count();
        let left = left.iter().filter(|event| number(event) < 2).count();
        assert_eq!(of_rounds + left, 2);
        late.join().expect("no panic");
        timer.join().expect("no panic");
        assert!(executor.next_event().is_none(), "an event is kept");
    });
}

fn number(event: &Event) -> usize {
    match event {
        Event::Load(number, _) => *number,
        _ => usize::MAX,
    }
}

/// Where panics unwind, in an embedder's process and in tests, the worker would be lost, and the
/// member would not end.
#[test]
fn a_panic_of_the_worker_is_reported_and_loses_no_event() {
    explore(|| {
        let (executor, reports, timer) = running();
        let one = sender(&executor, vec![Event::Panic(0), Event::Load(1, 1)]);
        let two = sender(&executor, vec![Event::Load(2, 1), Event::Load(3, 1)]);
        let mut taken = wait_for(&reports, 4);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3, PANICKED]);
        end(&executor, [one, two], timer);
    });
}
