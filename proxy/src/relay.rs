//! Two sockets that are one connection, and no buffer while nothing happens.
//!
//! What arrives is read into room that all connections of a thread share, and written at once. Only
//! what the other side does not take is kept, and then no more is read from this side.

use std::cell::RefCell;
use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task;

/// Read at a time; what a direction keeps at most.
const PART_BYTES: usize = 16 * 1024;

thread_local! {
    static PART: RefCell<Vec<u8>> = RefCell::new(vec![0; PART_BYTES]);
}

/// What became of a part.
enum Passed {
    /// The side that is read from is at its end.
    End,
    /// Written, but for this.
    Rest(Vec<u8>),
}

/// Passes on what each side sends, and its end, until both have ended or one fails.
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
        // One that always has something to say is not the only one.
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

/// How much was taken: nothing, when there is no room.
fn write(to: &WriteHalf<'_>, bytes: &[u8]) -> io::Result<usize> {
    match to.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
