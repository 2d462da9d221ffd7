//! Soak: generated operations on two servers; every answer is compared, seed after seed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use keelson_tests::differential::{auth, run};
use keelson_tests::proc::binary;

/// Compare every answer of two servers to generated operations.
#[derive(Parser)]
struct Args {
    /// The server under test; Keelson's own if not given.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The reference; etcd on PATH if not given.
    #[arg(long)]
    against: Option<PathBuf>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Calls of users, instead of operations without auth.
    #[arg(long)]
    auth: bool,
    /// Number of operations for each seed.
    #[arg(long, default_value_t = 20_000)]
    ops: usize,
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
    let ours = args.binary.clone().map_or_else(binary::ours, Ok)?;
    let theirs = args
        .against
        .clone()
        .or_else(binary::etcd)
        .context("etcd is not on PATH")?;
    let mut failed = 0;
    for seed in args.seed..args.seed + args.seeds {
        let outcome = match args.auth {
            true => auth::run::run(&ours, &theirs, seed, args.ops).await,
            false => run::run(&ours, &theirs, seed, args.ops).await,
        };
        match outcome {
            Ok(summary) => println!("seed {seed}: {summary:#?}"),
            Err(error) => {
                failed += 1;
                println!("{error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} seeds differ", args.seeds);
    }
    Ok(())
}
