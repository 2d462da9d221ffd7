//! A socket that joins HTTP/2 answers that become ready together into one write.
//!
//! tokio polls the task that was woken last first. A connection's task would therefore run after
//! each of its requests' tasks and write each answer alone. Ten requests in flight would cost ten
//! system calls, each about as expensive as all other work for a small answer. While other requests
//! of the connection are being answered, a flush therefore yields once to the tasks that are
//! runnable.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered; more are written at once.
const GATHERED_BYTES_MAX: usize = 16 << 10;

/// The requests of a connection: those that are being answered, and those whose answers have not
/// ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answering(Arc<StreamCounts>);

#[derive(Debug, Default)]
struct StreamCounts {
    answering: AtomicUsize,
    open: AtomicUsize,
    /// Part of an answer was sent since `take_sent`.
    sent: AtomicBool,
}

/// One of them; dropped when its answer begins.
#[derive(Debug)]
pub(crate) struct OneAnswering(Answering);

/// One of them; dropped when its answer has ended.
#[derive(Debug)]
pub(crate) struct OneOpen(Answering);

impl Answering {
    pub(crate) fn one_more(&self) -> OneAnswering {
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        OneAnswering(self.clone())
    }

    pub(crate) fn open(&self) -> OneOpen {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        OneOpen(self.clone())
    }

    fn any(&self) -> bool {
        0 < self.0.answering.load(Ordering::Relaxed)
    }

    /// Whether an answer has not ended, or not begun.
    pub(crate) fn any_open(&self) -> bool {
        0 < self.0.open.load(Ordering::Relaxed)
    }

    /// Whether part of an answer was sent since the last call.
    pub(crate) fn take_sent(&self) -> bool {
        self.0.sent.swap(false, Ordering::Relaxed)
    }
}

impl OneOpen {
    /// The head or a part of the body is sent.
    pub(crate) fn sends(&self) {
        self.0.0.sent.store(true, Ordering::Relaxed);
    }
}

impl Drop for OneAnswering {
    fn drop(&mut self) {
        self.0.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OneOpen {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that gathers what is written to it until it is flushed.
pub(crate) struct Gathered<I> {
    socket: I,
    answering: Answering,
    /// Empty and without memory while nothing is to be written.
    gathered: BytesMut,
    /// This flush has yielded to other tasks.
    yielded: bool,
}

impl<I> Gathered<I> {
    pub(crate) fn new(socket: I, answering: Answering) -> Gathered<I> {
        Gathered {
            socket,
            answering,
            gathered: BytesMut::new(),
            yielded: false,
        }
    }
}

impl<I: AsyncWrite + Unpin> Gathered<I> {
    /// Whether so many bytes more are gathered.
    fn gathers(&self, bytes: usize) -> bool {
        let begun = !self.gathered.is_empty();
        (begun || self.answering.any()) && self.gathered.len() + bytes <= GATHERED_BYTES_MAX
    }

    /// Ready once the socket has taken everything that was gathered.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        self.gathered = BytesMut::new();
        self.yielded = false;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if self.gathers(bytes) {
            for buf in bufs {
                self.gathered.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(bytes));
        }
        ready!(self.poll_drained(cx))?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begun = !self.gathered.is_empty();
        if begun && !self.yielded && self.answering.any() {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drained(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drained(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;

    /// Takes `room` bytes at most a write; without room it is never ready.
    struct Socket {
        writes: Vec<Vec<u8>>,
        room: usize,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.room == 0 {
                return Poll::Pending;
            }
            let taken = buf.len().min(self.room);
            self.writes.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Rig {
        gathered: Gathered<Socket>,
        woken: Arc<Woken>,
    }

    impl Rig {
        fn new(answering: &Answering) -> Rig {
            let socket = Socket {
                writes: Vec::new(),
                room: usize::MAX,
            };
            Rig {
                gathered: Gathered::new(socket, answering.clone()),
                woken: Arc::default(),
            }
        }

        fn write(&mut self, bytes: &[u8]) -> Poll<usize> {
            let waker = Waker::from(Arc::clone(&self.woken));
            let mut cx = Context::from_waker(&waker);
            let written = Pin::new(&mut self.gathered).poll_write(&mut cx, bytes);
            written.map(|written| written.expect("the socket does not fail"))
        }

        fn flush(&mut self) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            let mut cx = Context::from_waker(&waker);
            let flushed = Pin::new(&mut self.gathered).poll_flush(&mut cx);
            flushed.is_ready()
        }

        fn writes(&self) -> Vec<&[u8]> {
            let writes = self.gathered.socket.writes.iter();
            writes.map(Vec::as_slice).collect()
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_lone_answer_is_written_at_once() {
        let answering = Answering::default();
        let mut rig = Rig::new(&answering);
        drop(answering.one_more());
        assert_eq!(rig.write(b"one"), Poll::Ready(3));
        assert_eq!(rig.writes(), [b"one"]);
        assert!(rig.flush());
        assert_eq!(rig.woken(), 0);
    }

    #[test]
    fn answers_that_become_ready_together_leave_in_one_write() {
        let answering = Answering::default();
        let mut rig = Rig::new(&answering);
        let others = [answering.one_more(), answering.one_more()];
        assert_eq!(rig.write(b"one "), Poll::Ready(4));
        assert!(!rig.flush(), "the others go first");
        assert_eq!((rig.woken(), rig.writes().len()), (1, 0));
        drop(others);
        assert_eq!(rig.write(b"two "), Poll::Ready(4));
        assert_eq!(rig.write(b"three"), Poll::Ready(5));
        assert!(rig.flush());
        assert_eq!(rig.writes(), [b"one two three"]);
        assert_eq!(rig.gathered.gathered.capacity(), 0, "none is kept");
    }

    /// A watch or a long poll is being answered for hours.
    #[test]
    fn a_flush_waits_once() {
        let answering = Answering::default();
        let mut rig = Rig::new(&answering);
        let _long = answering.one_more();
        for round in 1..=2 {
            assert_eq!(rig.write(b"event"), Poll::Ready(5));
            assert!(!rig.flush());
            assert!(rig.flush());
            assert_eq!((rig.woken(), rig.writes().len()), (round, round));
            assert!(rig.flush(), "there is nothing to wait for");
        }
    }

    #[test]
    fn more_than_is_gathered_is_written_in_order() {
        let answering = Answering::default();
        let mut rig = Rig::new(&answering);
        let _other = answering.one_more();
        let large = vec![7; GATHERED_BYTES_MAX];
        assert_eq!(rig.write(b"first"), Poll::Ready(5));
        assert_eq!(rig.write(&large), Poll::Ready(large.len()));
        assert_eq!(rig.writes()[0], b"first");
        assert_eq!(rig.writes(), [b"first", &large[..]]);
        assert_eq!(rig.write(&large), Poll::Ready(large.len()));
        assert_eq!(rig.writes().len(), 2, "gathered again");
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_kept() {
        let answering = Answering::default();
        let mut rig = Rig::new(&answering);
        let other = answering.one_more();
        assert_eq!(rig.write(b"answer"), Poll::Ready(6));
        drop(other);
        rig.gathered.socket.room = 0;
        assert!(!rig.flush());
        let large = vec![7; GATHERED_BYTES_MAX];
        assert_eq!(rig.write(&large), Poll::Pending);
        rig.gathered.socket.room = 4;
        assert!(rig.flush());
        assert_eq!(rig.writes(), [&b"answ"[..], b"er"]);
    }
}
