//! The series of a process that Prometheus's client libraries have, from Linux's `/proc`.

use std::fs;

use super::Exposition;
use crate::{descriptor_limit, memory};

/// The unit of the times in `/proc/self/stat`: 1/100 s on every Linux system.
const TICKS_A_SECOND: f64 = 100.0;

/// Writes the process's descriptors, memory and times. Without `/proc` it writes what it has.
pub fn write_process(out: &mut Exposition) {
    let limit = descriptor_limit();
    let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    if let Some(open) = open {
        out.gauge("os_fd_used", "The number of used file descriptors.", open);
        let help = "Number of open file descriptors.";
        out.gauge("process_open_fds", help, open);
    }
    out.gauge("os_fd_limit", "The file descriptor limit.", limit);
    let help = "Maximum number of open file descriptors.";
    out.gauge("process_max_fds", help, limit);
    if let Some(memory) = memory() {
        let (resident, virtual_bytes) = (memory.resident, memory.address_space);
        let help = "Resident memory size in bytes.";
        out.gauge("process_resident_memory_bytes", help, resident);
        let help = "Virtual memory size in bytes.";
        out.gauge("process_virtual_memory_bytes", help, virtual_bytes);
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    if let Some((cpu, started)) = times(&stat, &system) {
        let help = "Total user and system CPU time spent in seconds.";
        out.counter("process_cpu_seconds_total", help, cpu);
        let help = "Start time of the process since unix epoch in seconds.";
        out.gauge("process_start_time_seconds", help, started);
    }
}

/// The CPU time of the process, and its start since the epoch, in seconds.
fn times(stat: &str, system: &str) -> Option<(f64, f64)> {
    // The name may have blanks and parentheses, and nothing behind it has.
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<f64>().ok();
    let (user, kernel, start) = (field(14)?, field(15)?, field(22)?);
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "));
    let booted: f64 = booted?.trim().parse().ok()?;
    Some((
        (user + kernel) / TICKS_A_SECOND,
        booted + start / TICKS_A_SECOND,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4 1 0 0 0 250 50 0 0 20 0 9 0 1200 1 1";
        let system = "cpu 1 2\nbtime 1700000000\n";
        assert_eq!(times(stat, system), Some((3.0, 1_700_000_012.0)));
        assert_eq!(times("", system), None);
    }

    #[test]
    fn a_linux_process_has_all_of_them() {
        let mut out = Exposition::default();
        write_process(&mut out);
        let text = out.into_text();
        for name in [
            "process_open_fds",
            "process_cpu_seconds_total",
            "os_fd_limit",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{text}");
        }
    }
}
