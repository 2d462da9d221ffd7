//! `keelson-benches cluster`: our clusters and another server's, under the same load, in turn.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keelson_benches::cluster::{self, plan::Plan};

/// Measurements of whole clusters.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Closed-loop load on clusters of child processes on loopback.
    Cluster(Plan),
}

fn main() -> ExitCode {
    let What::Cluster(plan) = Args::parse().what;
    match cluster::run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
