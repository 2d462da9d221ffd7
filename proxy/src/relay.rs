//! Joins two sockets to one connection, without a buffer while it is idle.
//!
//! Bytes are read into a buffer that all connections of a thread share, and written at once. Only
//! bytes that the other side does not take are kept, and then no more are read from this side.

use std::cell::RefCell;
use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task;

/// Read at a time; a direction keeps no more.
const PART_BYTES: usize = 16 * 1024;

thread_local! {
    static PART: RefCell<Vec<u8>> = RefCell::new(vec![0; PART_BYTES]);
}

/// The result of a read and a write.
enum Passed {
    /// The source has ended.
    End,
    /// All was written but for these bytes.
    Rest(Vec<u8>),
}

/// Forwards the bytes of each side, and its end, until both have ended or one fails.
pub(crate) async fn relay(near: &mut TcpStream, far: &mut TcpStream) -> io::Result<()> {
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::try_join!(one_way(near_read, far_write), one_way(far_read, near_write))?;
    Ok(())
}

async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    loop {
        from.readable().await?;
        match pass(&from, &to) {
            Ok(Passed::End) => return to.shutdown().await,
            Ok(Passed::Rest(rest)) => write_all(&to, &rest).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        // A busy connection must not starve the others of the thread.
        task::consume_budget().await;
    }
}

/// Reads once and writes once, without waiting.
fn pass(from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> io::Result<Passed> {
    PART.with_borrow_mut(|part| {
        let read = from.try_read(part)?;
        if read == 0 {
            return Ok(Passed::End);
        }
        let written = write(to, &part[..read])?;
        Ok(Passed::Rest(part[written..read].to_vec()))
    })
}

async fn write_all(to: &WriteHalf<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        bytes = &bytes[write(to, bytes)?..];
    }
    Ok(())
}

/// The number of bytes that were taken; 0 if there is no room.
fn write(to: &WriteHalf<'_>, bytes: &[u8]) -> io::Result<usize> {
    match to.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
