//! The load over HTTP/1.1: raw sockets, requests that are fixed bytes, one thread.
//!
//! It shares two cores with the servers it measures, so it does no more than system calls and one
//! look at each answer's head.

pub mod closed_loop;
pub mod connection;
pub mod crowd;

use anyhow::{Context, Result};

/// Host and port of a member's URL.
///
/// # Errors
/// It is not a plain `http://host:port`.
pub fn host(url: &str) -> Result<&str> {
    let host = url.strip_prefix("http://");
    host.with_context(|| format!("{url} does not begin with http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        assert_eq!(host("http://h:1").unwrap(), "h:1");
        assert!(host("https://h:1").is_err());
    }
}
