//! Unmaps code that is no longer needed.
//!
//! An executable's pages stay in a process's memory once they were touched, and the kernel maps
//! neighbouring ones too. A proxy or gateway runs on every host. It would keep megabytes of code
//! that read its flags and found its cluster, or served a burst of watches an hour ago.

use std::fs;
use std::ptr::with_exposed_provenance_mut;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use tokio::time;
use tracing::debug;

/// Time after which the start counts as over.
const START: Duration = Duration::from_secs(2);

/// The interval of measurements. It is short, so that the pages of one activity are released before
/// the next adds its own: a burst of watches, and the queries for the members.
const LOOK: Duration = Duration::from_secs(1);

/// Growth in pages above the minimum that justifies the few dozen page faults of a release.
const PAGES_MANY: usize = 512;

/// Runs until the process ends.
pub(crate) async fn trim_resident_code() {
    time::sleep(START).await;
    release_code();
    let mut least = touched();
    loop {
        time::sleep(LOOK).await;
        let now = touched();
        least = least.min(now);
        if least + PAGES_MANY < now {
            release_code();
            least = touched();
        }
    }
}

/// Resident pages of mapped files; 0 where that cannot be measured.
fn touched() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let shared = statm.split_ascii_whitespace().nth(2);
    shared.and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Unmaps the pages of all code and of the constants next to it. A page that is needed again is
/// read from the page cache at its first use, as when the kernel itself is short of memory.
fn release_code() {
    let maps = match fs::read_to_string("/proc/self/maps") {
        Ok(maps) => maps,
        Err(error) => {
            debug!(%error, "cannot read the memory map; the code of the start stays resident");
            return;
        }
    };
    for (first, after) in maps.lines().filter_map(read_only_part_of_a_file) {
        let pages = with_exposed_provenance_mut(first);
        // SAFETY: a private mapping of a file that was never writable has the same content as the
        // file. Dropping its pages does not change what the program reads.
        #[expect(
            unsafe_code,
            reason = "there is no safe call; it must be this process's own"
        )]
        let released = unsafe { madvise(pages, after - first, Advice::LinuxDontNeed) };
        if let Err(error) = released {
            debug!(%error, "the code of the start stays resident");
        }
    }
}

/// Makes the allocator return every page that is wholly free. On other systems the allocator does
/// so by itself, or has no call for it.
pub(crate) fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "it is a C function; it takes no pointer and may be called at any time"
    )]
    // SAFETY: glibc's function is thread-safe and touches free memory only.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// The first address and the end of a mapping from a file that was never writable: code, and the
/// constants at an executable's beginning. Other mappings that are read-only now have been written:
/// the loader fills in tables of pointers and then protects them.
fn read_only_part_of_a_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (first, after) = words.next()?.split_once('-')?;
    let (rights, offset) = (words.next()?, words.next()?);
    let is_start = usize::from_str_radix(offset, 16) == Ok(0);
    let never_writable = rights == "r-xp" || rights == "r--p" && is_start;
    let from_file = words.nth(2)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(first)?, address(after)?)).filter(|_| never_writable && from_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_writable_is_found() {
        let code = "5604051788f0-560405a5a000 r-xp 002cc000 fe:00 1234   /usr/bin/keelson";
        let found = Some((0x5604_0517_88f0, 0x5604_05a5_a000));
        assert_eq!(read_only_part_of_a_file(code), found);
        let constants = "560404eab000-560405177000 r--p 00000000 fe:00 1234   /usr/bin/keelson";
        let found = Some((0x5604_04ea_b000, 0x5604_0517_7000));
        assert_eq!(read_only_part_of_a_file(constants), found);
        for other in [
            "560405a5a000-560405ab9000 r--p 00bb9000 fe:00 1234   /usr/bin/keelson",
            "560405b3f000-560405b41000 rw-p 00000000 00:00 0",
            "7ffc6b9d8000-7ffc6b9da000 r-xp 00000000 00:00 0      [vdso]",
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]",
            "7f0000000000-7f0000001000 r-xp 00000000 00:00 0",
            "nonsense",
        ] {
            assert_eq!(read_only_part_of_a_file(other), None, "{other}");
        }
    }

    #[test]
    fn the_process_goes_on() {
        assert_ne!(touched(), 0);
        release_code();
        let sum: u64 = (0..1000).map(|n| n * n).sum();
        assert_eq!(sum, 332_833_500);
    }
}
