//! The protocol of a connection, by its first bytes.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{self, Instant};

/// How HTTP/2 begins; no HTTP/1.1 method begins so.
const H2_PREFACE: &[u8; 4] = b"PRI ";

/// How TLS begins: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The waits while a client sends its first four bytes one by one. The socket stays readable
/// meanwhile, so there is nothing to be woken by.
const PEEK_WAIT_MIN: Duration = Duration::from_millis(1);
const PEEK_WAIT_MAX: Duration = Duration::from_millis(50);

/// The protocol of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
    Tls,
    /// It was closed without a byte, as load balancers' probes do.
    Nothing,
}

/// Peeks at the first bytes and leaves them in the socket.
pub(super) async fn spoken(socket: &TcpStream, timeout: Duration) -> io::Result<Spoken> {
    let deadline = Instant::now() + timeout;
    let mut wait = PEEK_WAIT_MIN;
    loop {
        let mut first = [0; H2_PREFACE.len()];
        let read = time::timeout_at(deadline, socket.peek(&mut first)).await??;
        if let Some(spoken) = recognise(&first[..read]) {
            return Ok(spoken);
        }
        time::timeout_at(deadline, time::sleep(wait)).await?;
        wait = (wait * 2).min(PEEK_WAIT_MAX);
    }
}

/// `None`: more bytes are needed. PUT and POST begin as `PRI ` does.
fn recognise(first: &[u8]) -> Option<Spoken> {
    match first {
        [] => Some(Spoken::Nothing),
        [TLS_HANDSHAKE, ..] => Some(Spoken::Tls),
        _ if first == H2_PREFACE => Some(Spoken::Http2),
        _ if H2_PREFACE.starts_with(first) => None,
        _ => Some(Spoken::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let cases: [(&[u8], Option<Spoken>); 8] = [
            (b"", Some(Spoken::Nothing)),
            (b"\x16\x03\x01\x02", Some(Spoken::Tls)),
            (b"PRI ", Some(Spoken::Http2)),
            (b"P", None),
            (b"PR", None),
            (b"PUT ", Some(Spoken::Http1)),
            (b"PO", Some(Spoken::Http1)),
            (b"G", Some(Spoken::Http1)),
        ];
        for (first, expected) in cases {
            assert_eq!(recognise(first), expected, "{first:?}");
        }
    }
}
