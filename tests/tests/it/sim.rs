//! A short run of the simulator: some seeds pass, one seed always runs the same, and every mutant
//! is caught. The long version is the binary `sim`, which CI runs with 1,000 seeds.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{iter, thread};

use keelson_tests::sim::{Mutant, Options, run};

fn options(seed: u64, seconds: u64) -> Options {
    Options {
        seed,
        seconds,
        load: false,
        mutant: None,
        trace: false,
    }
}

#[test]
fn no_seed_finds_anything_wrong() {
    for seed in 1..=6 {
        if let Err(failure) = run(&options(seed, 15)) {
            panic!(
                "{}\n{:?}\nreplay: cargo run -p keelson-tests --bin sim -- --seeds 1 \
                 --first-seed {seed} --seconds 15",
                failure.problem, failure.swarm
            );
        }
    }
}

/// The leader goes on while a follower is stopped or an engine hangs, and no member exceeds its
/// memory bound.
#[test]
fn under_load_no_member_holds_more_than_it_may() {
    for seed in 1..=2 {
        let options = Options {
            load: true,
            ..options(seed, 20)
        };
        if let Err(failure) = run(&options) {
            panic!("{}\nseed {seed}: {:?}", failure.problem, failure.swarm);
        }
    }
}

#[test]
fn a_seed_runs_the_same_every_time() {
    for seed in [50, 51] {
        let trace = || {
            let report = run(&options(seed, 5));
            report
                .map_err(|failure| failure.problem)
                .map(|report| report.tally.trace)
        };
        let first = trace().expect("a seed without a fault");
        assert_eq!(Ok(first), trace());
    }
}

/// The first seed that catches a mutant, where that is not 1. It is tried first, to save time: when
/// the draws of seeds change, the others are searched, and the line that is printed is for here.
const CAUGHT_BY: [(Mutant, u64); 26] = [
    (Mutant::VoteNotSynced, 4),
    (Mutant::ReadBeforeApply, 3),
    (Mutant::TruncateTooFar, 4),
    (Mutant::FlushTorn, 3),
    (Mutant::SnapshotIgnored, 3),
    (Mutant::SnapshotStale, 11),
    (Mutant::SnapshotWithoutMembership, 3),
    (Mutant::SnapshotUnchecked, 3),
    (Mutant::DamageRepaired, 18),
    (Mutant::BeganUnchecked, 26),
    (Mutant::EngineDamagePassed, 3),
    (Mutant::LostDiskVotes, 5),
    (Mutant::GraceAtElection, 3),
    (Mutant::WatcherCountedLate, 7),
    (Mutant::ResumeForgotten, 3),
    (Mutant::ResumeRepeats, 3),
    (Mutant::ChangesUnchecked, 6),
    (Mutant::NumbersRestart, 13),
    (Mutant::ReadersJoinLate, 3),
    (Mutant::EventLostAtCompaction, 2),
    (Mutant::SnapshotUnseenByWatches, 2),
    (Mutant::LeaseExpiredByOldLeader, 4),
    (Mutant::RenewalUnconfirmed, 12),
    (Mutant::LockGivenUpForAll, 26),
    (Mutant::ObservedLocally, 3),
    (Mutant::LoginUnseen, 4),
];

/// The seed that catches a mutant, and the failure; `None` if it is not caught.
fn catch(mutant: Mutant, seeds: u64) -> Option<(u64, String)> {
    let known = CAUGHT_BY.iter().find(|(of, _)| *of == mutant);
    let known = known.map_or(1, |(_, seed)| *seed);
    let others = (1..=seeds).filter(|seed| *seed != known);
    for seed in iter::once(known).chain(others) {
        let options = Options {
            mutant: Some(mutant),
            ..options(seed, 10)
        };
        // A failed assertion of the product catches a mutant as well as an invariant does.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(&options)));
        let problem = match outcome {
            Ok(Ok(_)) => continue,
            Ok(Err(failure)) => failure.problem,
            Err(_) => "an assertion".to_owned(),
        };
        let first_line = problem.lines().next().unwrap_or_default();
        return Some((seed, first_line.chars().take(100).collect()));
    }
    None
}

/// Tries mutants, from a number that the threads share, and returns those that are not caught.
fn try_mutants(next: &AtomicUsize) -> Vec<Mutant> {
    let mut escaped = Vec::new();
    while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
        match catch(*mutant, 120) {
            Some((seed, by)) => println!("(Mutant::{mutant:?}, {seed}), // {by}"),
            None => escaped.push(*mutant),
        }
    }
    escaped
}

#[test]
fn every_mutant_is_caught() {
    let next = AtomicUsize::new(0);
    let escaped = thread::scope(|scope| {
        let other = scope.spawn(|| try_mutants(&next));
        let mut escaped = try_mutants(&next);
        escaped.extend(other.join().expect("it catches panics"));
        escaped
    });
    assert!(escaped.is_empty(), "escaped: {escaped:?}");
}
