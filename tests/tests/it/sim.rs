//! A short run of the simulator: some seeds pass, one seed always runs the same, and every mutant
//! is caught. The long version is the binary `sim`.

use std::panic::{self, AssertUnwindSafe};

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
    for seed in 1..=12 {
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
    for seed in 1..=3 {
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
    let trace = || run(&options(50, 10)).map(|report| report.tally.trace);
    let (first, second) = (trace(), trace());
    assert_eq!(first.ok(), second.ok());
}

/// The number of seeds until the mutant is caught, and the failure; `None` if it is not caught.
fn catch(mutant: Mutant, seeds: u64) -> Option<(u64, String)> {
    for seed in 1..=seeds {
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

#[test]
fn every_mutant_is_caught() {
    let mut escaped = Vec::new();
    for mutant in Mutant::ALL {
        match catch(mutant, 120) {
            Some((seed, by)) => println!("{mutant:?}: seed {seed}, {by}"),
            None => escaped.push(mutant),
        }
    }
    assert!(escaped.is_empty(), "escaped: {escaped:?}");
}
