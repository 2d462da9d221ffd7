//! Soak: generated requests of the v2 API on two servers; every reply is compared, seed after seed.
//!
//! ```text
//! cargo run --release -p keelson-tests --bin differential_v2 -- --seeds 50 --requests 10000
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use keelson_tests::differential_v2::subject::Through;
use keelson_tests::differential_v2::{auth, expiry, run};
use keelson_tests::proc::binary;

/// Compare every reply of two servers to generated requests of the v2 API.
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
    /// Number of requests for each seed.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Number of requests about accounts for each seed; slow, since hashing passwords is.
    #[arg(long, default_value_t = 0)]
    auth: usize,
    /// Include keys with a TTL.
    #[arg(long)]
    expiry: bool,
    /// Send the requests to the server under test through a proxy.
    #[arg(long)]
    proxied: bool,
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
    let theirs = args.against.clone().or_else(binary::etcd);
    let theirs = theirs.context("etcd is not on PATH")?;
    let through = match args.proxied {
        true => Through::Proxy,
        false => Through::Nothing,
    };
    let mut failed = 0;
    for seed in args.seed..args.seed + args.seeds {
        let mut outcomes = Vec::new();
        if 0 < args.requests {
            outcomes.push(run::run(&ours, &theirs, through, seed, args.requests).await);
        }
        if 0 < args.auth {
            outcomes.push(auth::run(&ours, &theirs, through, seed, args.auth).await);
        }
        if args.expiry {
            outcomes.push(expiry::run(&ours, &theirs, through).await);
        }
        for outcome in outcomes {
            match outcome {
                Ok(summary) => println!("seed {seed}: {summary:?}"),
                Err(error) => {
                    failed += 1;
                    println!("{error:#}");
                }
            }
        }
    }
    if 0 < failed {
        bail!("{failed} runs differ");
    }
    Ok(())
}
