//! Soak: kill -9 two of five members under load, repeatedly, and print how long writes were not
//! acknowledged. Works for any binary with etcd's flags, so that etcd can be measured too.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use keelson_tests::chaos::distribution::Distribution;
use keelson_tests::chaos::kill_two::{self, Round, Victims};
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Kill -9 two of five members under load, and measure how long writes are not acknowledged.
#[derive(Parser)]
struct Args {
    /// The server binary; Keelson's own if not given, or for example /usr/bin/etcd.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Number of rounds.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Number of members of the cluster.
    #[arg(long, default_value_t = 5)]
    members: usize,
    /// Number of clients that write, each with one request in flight.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Seed for the choice of the members to kill.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kill two followers, and not the leader.
    #[arg(long)]
    spare_leader: bool,
    /// Show the members' logs of rounds whose outage was longer, in seconds.
    #[arg(long, value_name = "SECONDS")]
    explain_over: Option<f64>,
    /// Parent of the members' directories.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A flag for every member; may be repeated.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    member_flag: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Dropping the future ends the members and removes their data.
    let result = tokio::select! {
        result = soak(&args) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::Error::msg("interrupted")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(args: &Args) -> Result<()> {
    let binary = args.binary.clone().map_or_else(binary::ours, Ok)?;
    let plan = Plan {
        extra: args.member_flag.clone(),
        parent: args.dir.clone(),
        ..Plan::new(&binary, args.members)
    };
    let victims = if args.spare_leader {
        Victims::Followers
    } else {
        Victims::WithLeader
    };
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut cluster = Cluster::start(&plan).await?;
    let (mut outages, mut acked, mut unknown, mut bad) = (Distribution::default(), 0, 0, 0);
    let progress = progress(args.rounds);
    for number in 1..=args.rounds {
        let name = format!("round{number}");
        let before = logs(&cluster);
        let round = kill_two::run(&mut cluster, args.clients, victims, &name, &mut rng).await?;
        progress.suspend(|| println!("{}", line(number, &round)));
        if args
            .explain_over
            .is_some_and(|limit| limit < round.outage.as_secs_f64())
        {
            progress.suspend(|| println!("{}", logged_since(&cluster, &before)));
        }
        progress.inc(1);
        outages.add(round.outage);
        acked += round.acked;
        unknown += round.unknown;
        bad += usize::from(!round.verdict.good());
    }
    progress.finish_and_clear();
    println!(
        "{}: {} rounds, {acked} writes acknowledged, {unknown} unknown",
        binary.display(),
        args.rounds
    );
    println!("longest gap between acknowledged writes: {outages}");
    if bad > 0 {
        bail!("{bad} rounds with violations");
    }
    println!("every acknowledged write is on every member, all members are equal");
    Ok(())
}

/// The length of every member's log.
fn logs(cluster: &Cluster) -> Vec<usize> {
    cluster
        .members
        .iter()
        .map(|member| member.log().len())
        .collect()
}

/// The log lines that members have written since their logs had these lengths.
fn logged_since(cluster: &Cluster, lengths: &[usize]) -> String {
    let news = cluster
        .members
        .iter()
        .zip(lengths)
        .map(|(member, length)| format!("--- {}\n{}", member.name, &member.log()[*length..]));
    news.collect()
}

/// One line about a round, and more after a violation.
fn line(number: usize, round: &Round) -> String {
    let verdict = if round.verdict.good() {
        "ok"
    } else {
        "VIOLATION"
    };
    let mut text = format!(
        "round {number:>3}: killed {}, outage {:.3} s, {} acknowledged, {} unknown ({} took \
         effect), {verdict}",
        round.killed.join(" and "),
        round.outage.as_secs_f64(),
        round.acked,
        round.unknown,
        round.verdict.resolved,
    );
    if !round.verdict.good() {
        text += &format!("\n{}", round.verdict.violations());
    }
    text
}

/// A progress bar on a terminal; hidden otherwise.
fn progress(rounds: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} round {pos} of {len}, {eta} left");
    let style = style.expect("the template is a constant");
    ProgressBar::new(rounds as u64).with_style(style)
}
