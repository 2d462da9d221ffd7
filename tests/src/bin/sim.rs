//! Runs the simulator for many seeds: the soak.
//!
//! ```text
//! cargo run --release -p keelson-tests --bin sim -- --seeds 1000 --seconds 60 --jobs 2
//! ```
//!
//! The first seed that fails ends the run with exit code 1, a line that replays it, and its history
//! in a file.

use std::cell::Cell;
use std::io::{self, BufWriter, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use keelson_tests::sim::{Failure, Mutant, Options, Report, run};

/// The interval of seeds that run twice; both runs must be the same to the last event.
const CANARY_EVERY: u64 = 50;

/// Simulate clusters with injected faults, one cluster for every seed.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Number of seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Duration of the faults in each run, in virtual seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Number of threads; each runs its own seeds.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Make every run one about load: small memory bounds, long stops of processes and engines.
    #[arg(long)]
    load: bool,
    /// A mutant, to show that the tests detect it.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Go on after a failure, and count failures.
    #[arg(long)]
    keep_going: bool,
    /// Print every seed's figures.
    #[arg(long)]
    verbose: bool,
    /// Print every event.
    #[arg(long)]
    trace: bool,
    /// Directory for the history of a failing seed.
    #[arg(long, default_value = "target/sim-failures")]
    failures: PathBuf,
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let all = || format!("one of {:?}", Mutant::ALL);
    Mutant::named(name).ok_or_else(all)
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The sum over all seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    failures: u64,
    operations: u64,
    facts: u64,
    events: u64,
    faults: u64,
    restarts: u64,
    snapshots: u64,
    garbled: u64,
    damages: u64,
    refused: u64,
    ended: u64,
    decayed: u64,
    undone: u64,
    changes: u64,
    elections: u64,
    expiries: u64,
    expired_leases: u64,
    locks: u64,
    rights: u64,
    denied: u64,
    denied_sessions: u64,
    watched: u64,
    cleared: u64,
    behind: u64,
    resumed: u64,
    sent: u64,
    compacted: u64,
    corruptions: u64,
    healed: u64,
    virtual_time: Duration,
    busy: Duration,
}

impl Total {
    fn add(&mut self, report: &Report, took: Duration) {
        let tally = &report.tally;
        self.operations += report.operations;
        self.facts += report.facts;
        self.events += tally.events;
        self.faults += tally.faults;
        self.restarts += tally.restarts;
        self.snapshots += tally.snapshots;
        self.garbled += tally.garbled;
        self.damages += tally.damages;
        self.refused += tally.refused;
        self.ended += tally.ended;
        self.decayed += tally.decayed;
        self.undone += tally.undone;
        self.changes += tally.changes;
        self.elections += tally.elections;
        self.expiries += tally.expiries;
        self.expired_leases += tally.expired_leases;
        self.locks += tally.locks;
        self.rights += tally.rights;
        self.denied += tally.denied;
        self.denied_sessions += tally.denied_sessions;
        self.watched += tally.watched;
        self.cleared += tally.cleared;
        self.behind += tally.behind;
        self.resumed += tally.resumed;
        self.sent += tally.sent;
        self.compacted += tally.compacted;
        self.corruptions += tally.corruptions;
        self.healed += tally.healed;
        self.virtual_time += report.virtual_time;
        self.busy += took;
    }

    /// Virtual seconds per second of CPU time, so that other programs' load does not count.
    fn speed(&self) -> f64 {
        let used = cpu_time().unwrap_or(self.busy);
        self.virtual_time.as_secs_f64() / used.as_secs_f64().max(1e-9)
    }
}

/// CPU time of this process, where the system reports it (Linux, in hundredths).
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    let mut ticks = after_name.split(' ').skip(11).map(str::parse::<u64>);
    let used = ticks.next()?.ok()? + ticks.next()?.ok()?;
    Some(Duration::from_millis(used * 10))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    name_the_seed_on_panic(arguments.clone());
    let began = Instant::now();
    let progress = progress(arguments.seeds);
    let total = Mutex::new(Total::default());
    let next = AtomicU64::new(arguments.first_seed);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| work(&arguments, &next, &stop, &total, &progress));
        }
    });
    progress.finish_and_clear();
    let total = total.into_inner().expect("no worker panicked");
    print_total(&total, began.elapsed());
    ExitCode::from(u8::from(total.failures != 0))
}

fn work(
    arguments: &Arguments,
    next: &AtomicU64,
    stop: &AtomicBool,
    total: &Mutex<Total>,
    progress: &ProgressBar,
) {
    let end = arguments.first_seed + arguments.seeds;
    while !stop.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if end <= seed {
            return;
        }
        let began = Instant::now();
        let outcome = run_seed(arguments, seed);
        let mut total = total.lock().expect("no worker panicked");
        total.seeds += 1;
        progress.inc(1);
        match outcome {
            Ok(report) => {
                total.add(&report, began.elapsed());
                progress.set_message(format!("{:.0}x real time", total.speed()));
                if arguments.verbose {
                    progress.suspend(|| println!("seed {seed}: {report:?}"));
                }
            }
            Err(failure) => {
                total.failures += 1;
                progress.suspend(|| explain(arguments, seed, &failure));
                stop.store(!arguments.keep_going, Ordering::Relaxed);
            }
        }
    }
}

fn run_seed(arguments: &Arguments, seed: u64) -> Result<Report, Box<Failure>> {
    SEED.set(Some(seed));
    let options = Options {
        seed,
        seconds: arguments.seconds,
        load: arguments.load,
        mutant: arguments.mutant,
        trace: arguments.trace,
    };
    let report = run(&options)?;
    if seed.is_multiple_of(CANARY_EVERY) {
        let again = run(&options)?;
        let (first, second) = (report.tally.trace, again.tally.trace);
        assert_eq!(first, second, "two runs of one seed differ");
    }
    SEED.set(None);
    Ok(report)
}

fn replay_line(arguments: &Arguments, seed: u64) -> String {
    let mutant = arguments
        .mutant
        .map_or(String::new(), |mutant| format!(" --mutant {mutant:?}"));
    let load = if arguments.load { " --load" } else { "" };
    let seconds = arguments.seconds;
    format!(
        "cargo run --release -p keelson-tests --bin sim -- --seeds 1 --first-seed {seed} \
         --seconds {seconds}{load}{mutant}"
    )
}

fn explain(arguments: &Arguments, seed: u64, failure: &Failure) {
    println!("seed {seed} failed: {}", failure.problem);
    println!("  {:?}", failure.swarm);
    match write_history(arguments, seed, failure) {
        Ok(path) => println!("  history: {} and, of the v2 API, -v2", path.display()),
        Err(error) => println!("  history: cannot be written: {error}"),
    }
    println!("  replay: {}", replay_line(arguments, seed));
}

fn write_history(arguments: &Arguments, seed: u64, failure: &Failure) -> io::Result<PathBuf> {
    std::fs::create_dir_all(&arguments.failures)?;
    let path = arguments.failures.join(format!("seed-{seed}.jsonl"));
    let mut file = BufWriter::new(std::fs::File::create(&path)?);
    failure.history.write_json(&mut file)?;
    let tree_path = arguments.failures.join(format!("seed-{seed}-v2.jsonl"));
    let mut file = BufWriter::new(std::fs::File::create(tree_path)?);
    failure.tree_history.write_json(&mut file)?;
    Ok(path)
}

/// A failed assertion of the product is a finding too: names the seed.
fn name_the_seed_on_panic(arguments: Arguments) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        if let Some(seed) = SEED.get() {
            println!("seed {seed} panicked");
            println!("  replay: {}", replay_line(&arguments, seed));
            std::process::exit(1);
        }
    }));
}

fn progress(seeds: u64) -> ProgressBar {
    if !io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {msg}, {eta} left");
    ProgressBar::new(seeds).with_style(style.expect("a valid template"))
}

fn print_total(total: &Total, elapsed: Duration) {
    let failed = total.failures;
    println!(
        "{} seeds in {:.1} s, {failed} failed",
        total.seeds,
        elapsed.as_secs_f64()
    );
    println!(
        "virtual time {:.0} s, {:.0}x real time per core",
        total.virtual_time.as_secs_f64(),
        total.speed()
    );
    println!(
        "operations {}, facts checked {}",
        total.operations, total.facts
    );
    println!("events {}, faults {}", total.events, total.faults);
    println!(
        "elections {}, restarts {}, snapshots {} ({} damaged), membership changes {}",
        total.elections, total.restarts, total.snapshots, total.garbled, total.changes
    );
    println!(
        "disks damaged {}, members that refused {}, clusters ended by it {}, losses left to the \
         leader {}, undetectable and undone {}",
        total.damages, total.refused, total.ended, total.decayed, total.undone
    );
    println!(
        "entries applied wrongly {}, wrong states replaced {}",
        total.corruptions, total.healed
    );
    println!(
        "v2: expiries {}, events watched {}, histories cleared {}, streams behind {}, watches \
         resumed {}",
        total.expiries, total.watched, total.cleared, total.behind, total.resumed
    );
    println!(
        "v3 watches: events {}, watches ended by a compaction {}",
        total.sent, total.compacted
    );
    println!(
        "leases expired {}, locks given {}, rights changed {}, requests and watches denied {}, of \
         leases and locks {}",
        total.expired_leases, total.locks, total.rights, total.denied, total.denied_sessions
    );
}
