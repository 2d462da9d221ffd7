//! Where connections come from: TCP, or a socket in the file system.
//!
//! A connection of the latter is handed on as a [`TcpStream`]: the system calls of both are the
//! same, and what reads and writes need not be written twice. It has no peer address.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A bound socket.
#[derive(Debug)]
pub enum Socket {
    /// An address and a port.
    Tcp(TcpListener),
    /// A path.
    Unix(UnixSocket),
}

/// A socket in the file system; its file goes with it, as in Go.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // It is gone, or the next start finds that nothing listens there.
        let _ = fs::remove_file(&self.path);
    }
}

impl Socket {
    /// Listens at a path. A file that a killed process has left there is replaced.
    ///
    /// # Errors
    /// A process listens there, or the path cannot be used.
    pub fn unix(path: &Path) -> io::Result<Socket> {
        let bound = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        Ok(Socket::Unix(UnixSocket {
            listener: bound?,
            path: path.to_owned(),
        }))
    }

    /// The address of a TCP socket.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().map(Some),
            Socket::Unix(_) => Ok(None),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Socket::Tcp(listener) => listener.accept().await.map(|(socket, _)| socket),
            Socket::Unix(socket) => {
                let (socket, _) = socket.listener.accept().await?;
                as_tcp(socket)
            }
        }
    }
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Socket {
        Socket::Tcp(listener)
    }
}

/// Connects to a socket in the file system.
///
/// # Errors
/// The system's.
pub async fn connect_unix(path: &str) -> io::Result<TcpStream> {
    as_tcp(UnixStream::connect(path).await?)
}

fn as_tcp(socket: UnixStream) -> io::Result<TcpStream> {
    let socket = OwnedFd::from(socket.into_std()?);
    TcpStream::from_std(std::net::TcpStream::from(socket))
}

/// Whether a socket's file is left of a process that is gone.
fn is_stale(path: &Path) -> bool {
    let refused = io::ErrorKind::ConnectionRefused;
    // A file of another kind refuses connections too.
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && StdUnixStream::connect(path).is_err_and(|error| error.kind() == refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_a_killed_process_left_is_replaced_and_a_listener_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = Socket::unix(&path).unwrap();
        let error = Socket::unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
        // What is no socket stays.
        fs::write(&path, "x").unwrap();
        Socket::unix(&path).unwrap_err();
        assert!(path.exists());
    }
}
