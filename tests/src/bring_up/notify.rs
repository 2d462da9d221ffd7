//! systemd's side of `Type=notify`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// A socket on which a host reports its readiness.
#[derive(Debug)]
pub struct Notified {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notified {
    /// Listens below `dir`.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn listen(dir: &Path, name: &str) -> Result<Notified> {
        let path = dir.join(format!("{name}.notify"));
        let socket = UnixDatagram::bind(&path)?;
        Ok(Notified { socket, path })
    }

    /// The value for `NOTIFY_SOCKET`.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// The host's next message; `None` if none comes in time.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn hears(&self, limit: Duration) -> Result<Option<String>> {
        let mut buffer = [0; 256];
        match timeout(limit, self.socket.recv(&mut buffer)).await {
            Ok(length) => {
                let text = std::str::from_utf8(&buffer[..length?]).context("no text")?;
                Ok(Some(text.to_owned()))
            }
            Err(_) => Ok(None),
        }
    }
}
