//! `keelson-benches`: our servers and another's, under the same load, in turn.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keelson_benches::{auth, bulk, cluster, disk, events, memory, proxy, upkeep, v2, watchers};

/// Measurements of whole servers, as child processes on loopback.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Closed-loop load of the v3 API on clusters.
    Cluster(cluster::plan::Plan),
    /// Closed-loop load of the v2 API over HTTP/1.1.
    V2(v2::plan::Plan),
    /// Thousands of v2 watches on one directory.
    Watchers(watchers::plan::Plan),
    /// v3 watchers while keys are put.
    Events(events::plan::Plan),
    /// Logins, and puts with auth and without.
    Auth(auth::plan::Plan),
    /// Reads of all keys, and the expiry of many leases, beside another client's puts.
    Bulk(bulk::plan::Plan),
    /// Reads and puts on a disk whose fsyncs take longer, by strace.
    Disk(disk::plan::Plan),
    /// What a member and a proxy hold: idle, with watches, with keys.
    Memory(memory::plan::Plan),
    /// Proxies: what the cluster feels of them, what they add, what they hold.
    Proxy(proxy::plan::Plan),
    /// Snapshot, compaction and defragmentation beside puts.
    Upkeep(upkeep::plan::Plan),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().what {
        What::Cluster(plan) => cluster::run(&plan),
        What::V2(plan) => v2::run(&plan),
        What::Watchers(plan) => watchers::run(&plan),
        What::Events(plan) => events::run(&plan),
        What::Auth(plan) => auth::run(&plan),
        What::Bulk(plan) => bulk::run(&plan),
        What::Disk(plan) => disk::run(&plan),
        What::Memory(plan) => memory::run(&plan),
        What::Proxy(plan) => proxy::run(&plan),
        What::Upkeep(plan) => upkeep::run(&plan),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
