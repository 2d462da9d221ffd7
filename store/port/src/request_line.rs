//! Mends a request target that Go takes and hyper does not: `?prevValue="x"`, as people type it.
//!
//! `"`, `<`, `>` and the backtick are no characters of a URL, and etcd's server has never minded them. They become
//! what they ought to be, `%22` and so on, before hyper sees them. This is done where a head begins
//! for certain and only there: in the first request line after hyper was given the socket. To look
//! for the next one would be to know where a body ends, and two opinions on that are how requests
//! are smuggled. In between hyper refuses them, as before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose first request line is mended.
pub(crate) struct LineMender<S> {
    inner: S,
    line: Line,
    /// Mended, and not yet taken: it has become longer.
    pending: Bytes,
}

/// How far the line has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Method,
    Target,
    /// From here on all is passed on as it is.
    Over,
}

impl<S> LineMender<S> {
    pub(crate) fn new(inner: S) -> LineMender<S> {
        LineMender {
            inner,
            line: Line::Method,
            pending: Bytes::new(),
        }
    }

    /// What is below, and what has come from there and was not taken.
    pub(crate) fn into_parts(self) -> (S, Bytes) {
        (self.inner, self.pending)
    }
}

impl Line {
    /// Looks at what has arrived; returns it mended, when that is needed.
    fn pass(&mut self, arrived: &[u8]) -> Option<Vec<u8>> {
        let mut mended: Option<Vec<u8>> = None;
        for (at, byte) in arrived.iter().enumerate() {
            *self = self.after(*byte);
            if *self == Line::Over {
                if let Some(mended) = &mut mended {
                    mended.extend_from_slice(&arrived[at..]);
                }
                break;
            }
            let escape = escape(*byte).filter(|_| *self == Line::Target);
            if escape.is_some() && mended.is_none() {
                mended = Some(arrived[..at].to_vec());
            }
            if let Some(mended) = &mut mended {
                mended.extend_from_slice(escape.unwrap_or(std::slice::from_ref(byte)));
            }
        }
        mended
    }

    /// Anything odd ends it: hyper is to see it as it is.
    fn after(self, byte: u8) -> Line {
        match (self, byte) {
            (Line::Method, b'A'..=b'Z') => Line::Method,
            (Line::Method, b' ') => Line::Target,
            (Line::Target, b'!'..=b'~' | 0x80..) => Line::Target,
            _ => Line::Over,
        }
    }
}

fn escape(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"%22"),
        b'<' => Some(b"%3C"),
        b'>' => Some(b"%3E"),
        b'`' => Some(b"%60"),
        _ => None,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LineMender<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mender = self.get_mut();
        if mender.pending.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut mender.inner).poll_read(cx, buf))?;
            if mender.line == Line::Over {
                return Poll::Ready(Ok(()));
            }
            let Some(mended) = mender.line.pass(&buf.filled()[before..]) else {
                return Poll::Ready(Ok(()));
            };
            buf.set_filled(before);
            mender.pending = mended.into();
        }
        let taken = mender.pending.len().min(buf.remaining());
        buf.put_slice(&mender.pending[..taken]);
        mender.pending.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LineMender<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// However the bytes arrive and are taken, the same bytes leave.
    #[track_caller]
    fn check(sent: &str, expected: &str) {
        let sent = sent.as_bytes();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        for size in [1, 2, 5, 7, sent.len()] {
            for room in [1, 3, 1024] {
                let left = runtime.block_on(all(sent, size, room));
                assert_eq!(String::from_utf8_lossy(&left), expected, "{size} {room}");
            }
        }
    }

    /// Everything that leaves when so much arrives at a time, and so much is taken.
    async fn all(sent: &[u8], size: usize, room: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(size);
        let mut mender = LineMender::new(server);
        let sending = async {
            client.write_all(sent).await.expect("a reader");
            drop(client);
        };
        let taking = async {
            let mut left = vec![];
            let mut part = vec![0; room];
            loop {
                match mender.read(&mut part).await.expect("no errors") {
                    0 => return left,
                    read => left.extend_from_slice(&part[..read]),
                }
            }
        };
        tokio::join!(sending, taking).1
    }

    #[test]
    fn only_the_first_request_line_is_mended() {
        let rest = " HTTP/1.1\r\nHost: \"<a>\"\r\n\r\n\"<>\"GET /\"b\" HTTP/1.1\r\n\r\n";
        check(
            &format!("PUT /v2/keys/<a>?prevValue=\"x\"&b=1{rest}"),
            &format!("PUT /v2/keys/%3Ca%3E?prevValue=%22x%22&b=1{rest}"),
        );
        let fine = format!("GET /v2/keys/a?b=%22é{rest}");
        check(&fine, &fine);
        // What is odd is hyper's to refuse.
        for odd in [
            "\r\nGET /\"a\" HTTP/1.1\r\n\r\n",
            "G\"T /a HTTP/1.1\r\n\r\n",
            "GET /a\r\n\"b\": 1\r\n\r\n",
            "GET /a\t\"b\" HTTP/1.1\r\n\r\n",
            "GET /a \"b\" HTTP/1.1\r\n\r\n",
            "get /\"a\" HTTP/1.1\r\n\r\n",
        ] {
            check(odd, odd);
        }
    }
}
