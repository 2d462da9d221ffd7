//! Members whose fsyncs take longer: each runs under strace, which delays these calls and lets all
//! others run at full speed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_tests::proc::cluster::{Cluster, Plan};

use crate::server::{Server, Servers};

/// How long a member may take to start; each of its fsyncs takes longer.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Checks that a program can be traced here.
///
/// # Errors
/// strace is missing, or tracing is forbidden.
pub fn check() -> Result<()> {
    let output = Command::new("strace")
        .args(arguments(1, Path::new("true")))
        .output()
        .context("strace is needed to delay fsyncs: apt-get install strace")?;
    ensure!(
        output.status.success(),
        "strace cannot trace a program here: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Starts members whose fsyncs take `micros` longer. They are traced with a delay of 0 as well, so
/// that a fast disk and a slow one differ in the delay only.
///
/// # Errors
/// A member does not start.
pub async fn start(
    server: &Server,
    servers: &Servers,
    members: usize,
    micros: u64,
) -> Result<Cluster> {
    let plan = Plan {
        binary: server.binary.clone(),
        members,
        extra: server.flags.clone(),
        parent: servers.data_dir.clone(),
    };
    let mut cluster = Cluster::create(&plan)?;
    let words = arguments(micros, &server.binary);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for member in &mut cluster.members {
        member.set_binary(Path::new("strace"));
        member.set_command(&words);
        member.start()?;
    }
    cluster.wait_ready(READY_LIMIT).await?;
    Ok(cluster)
}

/// With `-D` the process that is started is the traced program, and the tracer ends with it.
fn arguments(micros: u64, binary: &Path) -> Vec<String> {
    let inject = format!("inject=fsync,fdatasync:delay_enter={micros}");
    let mut words = vec!["-D", "-f", "--seccomp-bpf", "-q", "-o", "/dev/null"];
    words.extend(["-e", "trace=fsync,fdatasync", "-e", &inject]);
    let mut words: Vec<String> = words.into_iter().map(ToOwned::to_owned).collect();
    words.push(binary.display().to_string());
    words
}
