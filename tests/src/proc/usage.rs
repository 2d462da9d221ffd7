//! What a process costs, read from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Of that, what no file backs: what the kernel cannot drop.
    pub anonymous: u64,
}

/// CPU time the process has used, in user and system mode, all threads together.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets and may hold anything, even brackets.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("/proc/PID/stat has no name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks()
        .zip(ticks())
        .context("/proc/PID/stat is too short")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_micros(
        (user + system) * 1_000_000 / per_second,
    ))
}

/// Memory the process takes.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kilobytes = line.split_whitespace().nth(1)?.parse::<u64>().ok()?;
        Some(kilobytes * 1024)
    };
    Ok(Memory {
        resident: bytes("VmRSS:").context("/proc/PID/status has no VmRSS")?,
        anonymous: bytes("RssAnon:").context("/proc/PID/status has no RssAnon")?,
    })
}
