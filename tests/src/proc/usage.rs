//! The resource usage of a process, read from /proc.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident memory.
    pub resident: u64,
    /// The part of it that no file backs, which the kernel cannot drop.
    pub anonymous: u64,
}

/// CPU time of the process, in user and system mode, all threads together; usually in ticks of 10
/// ms.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets and may contain any characters, even
    // brackets.
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

/// CPU time of a process from now on, in nanoseconds where the kernel counts them
/// (`CONFIG_SCHED_INFO`). A thread's count ends with it: it is counted up to its last measurement.
#[derive(Debug)]
pub struct Meter {
    pid: u32,
    /// Each thread's CPU time at the last measurement, in nanoseconds.
    threads: BTreeMap<u32, u64>,
    used: u64,
}

impl Meter {
    /// Starts the measurement.
    ///
    /// # Errors
    /// There is no such process.
    pub fn start(pid: u32) -> Result<Meter> {
        let threads = threads(pid)?;
        let used = 0;
        Ok(Meter { pid, threads, used })
    }

    /// Adds the CPU time since the last measurement. Call it regularly, or threads that end
    /// meanwhile are missed.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn look(&mut self) -> Result<()> {
        let now = threads(self.pid)?;
        for (thread, used) in &now {
            let before = self.threads.get(thread).copied().unwrap_or_default();
            // The thread id may have been reused by a thread that began at 0.
            self.used += used.checked_sub(before).unwrap_or(*used);
        }
        self.threads = now;
        Ok(())
    }

    /// The CPU time up to the last measurement.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used)
    }
}

/// CPU time of all live threads, in nanoseconds.
fn threads(pid: u32) -> Result<BTreeMap<u32, u64>> {
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        // The thread may have just ended.
        let Ok(text) = std::fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        let thread = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let used = text.split_whitespace().next();
        let used = used.and_then(|used| used.parse().ok());
        let (thread, used) = thread
            .zip(used)
            .context("/proc/PID/task has an odd entry")?;
        threads.insert(thread, used);
    }
    if threads.is_empty() {
        // A kernel without these counts.
        threads.insert(pid, u64::try_from(cpu(pid)?.as_nanos())?);
    }
    Ok(threads)
}

/// The memory of the process.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_a_thread_has_used_counts_after_its_end() {
        let mut meter = Meter::start(std::process::id()).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            while meter.used() < Duration::from_millis(20) {
                meter.look().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        let before = meter.used();
        meter.look().unwrap();
        assert!(before <= meter.used());
        let ticks = cpu(std::process::id()).unwrap();
        assert!(meter.used() <= ticks + Duration::from_secs(1), "{ticks:?}");
    }
}
