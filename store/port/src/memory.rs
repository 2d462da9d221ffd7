//! The memory of the process, from Linux's `/proc`.

/// The memory of the process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The memory that is mapped to physical pages.
    pub resident: u64,
    /// The size of the address space.
    pub address_space: u64,
}

/// The memory of the process; `None` without `/proc`.
pub fn memory() -> Option<Memory> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split(' ').map(str::parse::<u64>);
    let (address_space, resident) = (pages.next()?.ok()?, pages.next()?.ok()?);
    let page_bytes = rustix::param::page_size() as u64;
    Some(Memory {
        resident: resident.saturating_mul(page_bytes),
        address_space: address_space.saturating_mul(page_bytes),
    })
}
