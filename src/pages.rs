//! Lets go of code that is not needed any more.
//!
//! An executable's pages stay in a process's memory once they were touched, and the kernel brings
//! their neighbours along. On a host with little memory a proxy or gateway, which is there on every host,
//! would keep megabytes of what read its flags and found its cluster, or served a burst of watches an hour
//! ago.

use std::fs;
use std::ptr::with_exposed_provenance_mut;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use tokio::time;
use tracing::debug;

/// Then the start is over.
const START: Duration = Duration::from_secs(2);

/// Between two looks at what has been touched since. Short, so that what one thing brought back is gone
/// before the next adds to it: a burst of watches, and the members being asked who they are.
const LOOK: Duration = Duration::from_secs(1);

/// So much more than there was at the least is worth the few dozen faults that letting go costs.
const PAGES_MANY: usize = 512;

/// For ever.
pub(crate) async fn keep_few() {
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

/// Pages of files that are mapped now; none, where that cannot be learnt.
fn touched() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let shared = statm.split_ascii_whitespace().nth(2);
    shared.and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Unmaps the pages of all code and of the constants beside it. What is still needed comes back from
/// the page cache at the first touch, as it does when the kernel itself is short of memory.
fn release_code() {
    let maps = match fs::read_to_string("/proc/self/maps") {
        Ok(maps) => maps,
        Err(error) => {
            debug!(%error, "cannot see the process's own memory; it keeps what the start needed");
            return;
        }
    };
    for (first, after) in maps.lines().filter_map(read_only_part_of_a_file) {
        let pages = with_exposed_provenance_mut(first);
        // SAFETY: a private mapping of a file that was never writable has nothing that is not in the
        // file. Dropping its pages changes nothing that the program can see.
        #[expect(
            unsafe_code,
            reason = "there is no safe call; it must be this process's own"
        )]
        let released = unsafe { madvise(pages, after - first, Advice::LinuxDontNeed) };
        if let Err(error) = released {
            debug!(%error, "the start's code stays in memory");
        }
    }
}

/// Has the allocator return every page that is wholly free; other systems' do so by themselves, or
/// have no call for it.
pub(crate) fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "it is a C function; it takes no pointer and may be called at any time"
    )]
    // SAFETY: glibc's, thread-safe; it touches only what is free.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// First address and the one after the last, of a mapping from a file that was never writable: code,
/// and the constants that an executable begins with. Others that cannot be written now have been:
/// the loader fills in tables of pointers and closes them then.
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
