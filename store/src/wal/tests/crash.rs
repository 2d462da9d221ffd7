//! Power loss at every operation, and syncs and writes that fail.
//!
//! The guarantee is exact: after a crash the log holds what the last successful sync made
//! durable, possibly with the whole step in progress, and nothing else. `KEELSON_CRASH_STATES`
//! sets the number of states to open.

use super::*;
use crate::disk::Disk;
use crate::disk::sim::Moment;

/// Up to this many unsynced sectors and names, all subsets are tried; above it, samples.
const EXHAUSTIVE: usize = 8;

#[expect(
    clippy::disallowed_methods,
    reason = "a soak opens more states than a test run"
)]
fn crash_states() -> u64 {
    let states = std::env::var("KEELSON_CRASH_STATES").ok();
    states
        .and_then(|states| states.parse().ok())
        .unwrap_or(24_000)
}

struct Crashes {
    rng: ChaCha8Rng,
    opened: u64,
    again: u64,
    cut: u64,
    moments: u64,
}

impl Crashes {
    /// Opens the states that every choice of surviving sectors leaves at one moment.
    fn at(&mut self, moment: &Moment, run: &Run, samples: u64) {
        self.moments += 1;
        let unsynced = moment.disk.unsynced();
        if unsynced <= EXHAUSTIVE {
            for subset in 0..1u64 << unsynced {
                let disk = moment.disk.fork();
                disk.crash_keeping(subset);
                self.check(&disk, moment, run);
            }
        }
        let samples = if unsynced == 0 { 0 } else { samples };
        for _ in 0..samples {
            let disk = moment.disk.fork();
            disk.crash(&mut |n| self.rng.random_range(0..n));
            self.check(&disk, moment, run);
        }
    }

    fn check(&mut self, disk: &SimDisk, moment: &Moment, run: &Run) {
        self.opened += 1;
        let before = disk.fork();
        let (wal, recovered) = open(disk).unwrap_or_else(|error| {
            panic!("after {} ({}): {error}", moment.operations, moment.after)
        });
        self.cut += u64::from(recovered.repaired.is_some());
        let found = Model::of(&recovered);
        let promised = run
            .promised
            .partition_point(|(done, _)| *done <= moment.operations);
        let allowed = &run.promised[promised - 1..run.promised.len().min(promised + 1)];
        assert!(
            allowed.iter().any(|(_, model)| *model == found),
            "after {} ({}): found {found:?}\nallowed {allowed:?}",
            moment.operations,
            moment.after
        );
        let boots = run
            .boots
            .iter()
            .filter(|(done, _)| *done <= moment.operations);
        assert!(boots.map(|(_, boot)| *boot).max() < Some(recovered.boot));
        drop(wal);
        if self.opened.is_multiple_of(16) {
            self.check_again(&before, disk, &found, allowed);
        }
    }

    /// Crashes during and right after the recovery: entries that were read once must stay.
    fn check_again(
        &mut self,
        before: &SimDisk,
        after: &SimDisk,
        found: &Model,
        allowed: &[(u64, Model)],
    ) {
        let disk = before.fork();
        disk.record();
        open(&disk).expect("it opened before");
        for moment in disk.moments() {
            self.again += 1;
            moment.disk.crash(&mut |n| self.rng.random_range(0..n));
            let (_, recovered) = open(&moment.disk).expect("recovering is repeatable");
            let model = Model::of(&recovered);
            assert!(allowed.iter().any(|(_, allowed)| *allowed == model));
        }
        after.crash(&mut |n| self.rng.random_range(0..n));
        let (mut wal, recovered) = open(after).expect("it opened before");
        assert_eq!(Model::of(&recovered), *found);
        let batch = Step::Append(1, 0).batch(found);
        wal.append(None, &batch.entries, None).unwrap();
        wal.sync().unwrap();
        drop(wal);
        after.crash(&mut |_| 0);
        let (_, recovered) = open(after).unwrap();
        assert_eq!(recovered.entries.last(), batch.entries.last());
    }
}

#[test]
fn every_crash_leaves_what_was_promised() {
    let states = crash_states();
    let started = std::time::Instant::now();
    let mut crashes = Crashes {
        rng: ChaCha8Rng::seed_from_u64(7),
        opened: 0,
        again: 0,
        cut: 0,
        moments: 0,
    };
    let mut seeds = 0;
    while crashes.opened < states {
        let mut run = Run::new(SimDisk::new());
        run.disk.record();
        for step in script(seeds, 60) {
            run.step(step)
                .unwrap_or_else(|error| panic!("seed {seeds}: {error}"));
        }
        for moment in run.disk.moments() {
            crashes.at(&moment, &run, 24);
        }
        seeds += 1;
    }
    println!(
        "log: {} crash states opened ({} moments of {seeds} workloads, {} with a torn frame cut), \
         {} more while recovering, in {:.1?}",
        crashes.opened,
        crashes.moments,
        crashes.cut,
        crashes.again,
        started.elapsed()
    );
}

/// Runs a workload on a disk that fails once; then the process, or the machine too, restarts.
fn fails_once(seed: u64, arm: impl Fn(&SimDisk, u64)) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut failures = 0;
    for n in 0.. {
        let mut run = Run::new(SimDisk::new());
        arm(&run.disk, n);
        let mut steps = script(seed, 60).into_iter();
        // Without a reopen step, which would disarm the fault.
        let steps = steps.by_ref().filter(|step| !matches!(step, Step::Reopen));
        let failed = { steps }
            .map(|step| first_open(&mut run, step))
            .any(|step| step.is_err());
        if !failed {
            return failures;
        }
        failures += 1;
        if let Some(wal) = &mut run.wal {
            assert!(matches!(wal.sync(), Err(WalError::Poisoned(_))));
            assert!(matches!(
                wal.append(None, &[], None),
                Err(WalError::Poisoned(_))
            ));
        }
        let allowed = [run.durable().clone(), run.model.clone()];
        for machine_too in [false, true] {
            let disk = run.disk.fork();
            if machine_too {
                disk.crash(&mut |n| rng.random_range(0..n));
            }
            let (_, recovered) = open(&disk).expect("a restart after a failure");
            let found = Model::of(&recovered);
            assert!(allowed.contains(&found), "seed {seed}, failure {n}");
            disk.crash(&mut |n| rng.random_range(0..n));
            let (_, recovered) = open(&disk).expect("a power loss after a restart");
            assert_eq!(Model::of(&recovered), found, "seed {seed}, failure {n}");
        }
    }
    failures
}

/// As `Run::step`, but the first open does not disarm the fault.
fn first_open(run: &mut Run, step: Step) -> Result<(), WalError> {
    if run.wal.is_none() {
        let (wal, recovered) = open(&run.disk)?;
        run.boots.push((run.disk.operations(), recovered.boot));
        run.wal = Some(wal);
    }
    run.step(step)
}

#[test]
fn a_sync_that_fails_ends_the_log_and_loses_nothing_promised() {
    let failures: u64 = (100..112)
        .map(|seed| fails_once(seed, SimDisk::fail_sync))
        .sum();
    println!("log: {failures} failing syncs");
    assert!(100 < failures);
}

#[test]
fn a_write_that_fails_ends_the_log_and_loses_nothing_promised() {
    let failures: u64 = (200..212)
        .map(|seed| fails_once(seed, SimDisk::fail_write))
        .sum();
    println!("log: {failures} failing writes");
    assert!(100 < failures);
}

#[test]
fn a_full_disk_is_an_error_and_survived() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    run.disk.limit(Some(3 * CONFIG.segment_bytes));
    let error = loop {
        run.step(Step::Append(2, 100)).unwrap();
        if let Err(error) = run.step(Step::Sync) {
            break error;
        }
    };
    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("no space left"));
    run.disk.limit(None);
    run.disk.kill();
    let (_, recovered) = open(&run.disk).unwrap();
    let found = Model::of(&recovered);
    assert!([run.durable().clone(), run.model.clone()].contains(&found));
}

#[test]
fn a_full_disk_while_preparing_does_not_end_the_log() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    run.disk.limit(Some(CONFIG.segment_bytes));
    let wal = run.wal.as_mut().unwrap();
    let refused = (0..100).find_map(|_| wal.prepare_next().err());
    assert!(matches!(refused, Some(WalError::DiskFull { .. })));
    run.step(Step::Append(1, 0)).unwrap();
    run.step(Step::Sync).unwrap();
}

/// The segment existed, but the log looked finished before it.
#[test]
fn a_disk_that_is_full_behind_a_new_segment_does_not_end_the_log() {
    let mut run = Run::new(SimDisk::new());
    run.step(Step::Reopen).unwrap();
    let names = |run: &Run| run.disk.list(Path::new(DIR)).unwrap();
    let segments = |run: &Run| {
        names(run)
            .iter()
            .filter(|name| name.ends_with(".wal"))
            .count()
    };
    run.disk.limit(Some(2 * CONFIG.segment_bytes));
    while segments(&run) < 2 {
        run.step(Step::Append(2, 100)).unwrap();
        run.step(Step::Sync).unwrap();
    }
    run.step(Step::Append(1, 100)).unwrap();
    run.step(Step::Sync).unwrap();
    run.disk.limit(None);
    run.step(Step::Reopen).unwrap();
}

#[test]
fn a_disk_that_lies_is_caught_by_these_tests() {
    let lost = (0..50).any(|seed| {
        let mut run = Run::new(SimDisk::new());
        run.step(Step::Reopen).unwrap();
        run.disk.lie(true);
        run.step(Step::Append(3, 0)).unwrap();
        run.step(Step::Sync).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        run.disk.crash(&mut |n| rng.random_range(0..n));
        let (_, recovered) = open(&run.disk).unwrap();
        Model::of(&recovered) != *run.durable()
    });
    assert!(lost);
}
