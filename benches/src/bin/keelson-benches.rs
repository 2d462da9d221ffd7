//! `keelson-benches cluster`: our clusters and another server's, under the same load, in turn.

use anyhow::Result;
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

fn main() -> Result<()> {
    let What::Cluster(plan) = Args::parse().what;
    cluster::run(&plan)
}
