//! Free loopback ports for members.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// Below the kernel's ephemeral range: while a member is down its peers keep dialling its port. A
/// dial *from* that very port would connect to itself and keep the member from restarting.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// Returns `count` ports on 127.0.0.1 without a listener.
///
/// # Errors
/// Too few ports are free.
pub fn free(count: usize) -> Result<Vec<u16>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Concurrent test processes start at different places.
    let start = std::process::id().wrapping_mul(97);
    let mut found = Vec::with_capacity(count);
    for _ in 0..COUNT {
        if found.len() == count {
            return Ok(found);
        }
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
    }
    bail!("no {count} free ports on 127.0.0.1")
}
