//! The socket in the standby's data directory by which `keelson cutover` reaches the follower. Its
//! owner is that of the data.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::warn;

use super::cutover::CutoverRequest;

const NAME: &str = "cutover.sock";
/// The pause after a connection that could not be accepted.
const RETRY: Duration = Duration::from_secs(1);
/// The longest request or answer, in bytes.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Asked {
    fence: bool,
    patience_ms: u64,
}

/// A directory whose socket has a short path: the system bounds the paths of sockets.
struct SocketDir {
    // Open as long as the path is used.
    dir: fs::File,
}

impl SocketDir {
    fn open(dir: &Path) -> io::Result<SocketDir> {
        fs::File::open(dir).map(|dir| SocketDir { dir })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{NAME}", self.dir.as_raw_fd()))
    }
}

/// Hands requests to the follower.
pub(super) async fn serve(dir: PathBuf, requests: mpsc::Sender<CutoverRequest>) -> Infallible {
    let listener = match bind(&dir) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(dir = %dir.display(), %error, "keelson cutover cannot reach this standby");
            return std::future::pending().await;
        }
    };
    loop {
        let served = match listener.accept().await {
            Ok((stream, _)) => answer(stream, &requests).await,
            Err(error) => {
                // For example while no descriptor is free.
                sleep(RETRY).await;
                Err(error)
            }
        };
        if let Err(error) = served {
            warn!(%error, "a request of keelson cutover has failed");
        }
    }
}

fn bind(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(SocketDir::open(dir)?.path())?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(stream: UnixStream, requests: &mpsc::Sender<CutoverRequest>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream)
        .take(MESSAGE_BYTES_MAX)
        .read_line(&mut line)
        .await?;
    let asked: Asked = serde_json::from_str(&line)?;
    let (reply, answered) = oneshot::channel();
    let request = CutoverRequest {
        fence: asked.fence,
        patience: Duration::from_millis(asked.patience_ms),
        reply,
    };
    let gone = "this cluster follows no other one";
    let answer: Result<String, String> = match requests.send(request).await {
        Ok(()) => tokio::select! {
            answer = answered => answer.unwrap_or_else(|_| Err(gone.to_owned())),
            // The command has ended: nothing may be opened any more, unattended.
            _ = stream.read_u8() => return Ok(()),
        },
        Err(_) => Err(gone.to_owned()),
    };
    let text = serde_json::to_string(&answer)?;
    stream.get_mut().write_all(text.as_bytes()).await
}

/// Requests the cut-over of the standby with this data directory. Returns what it answers.
pub(super) async fn ask(
    dir: &Path,
    fence: bool,
    patience: Duration,
) -> io::Result<Result<String, String>> {
    let dir = SocketDir::open(dir)?;
    let mut stream = UnixStream::connect(dir.path()).await?;
    let asked = Asked {
        fence,
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    };
    let line = serde_json::to_string(&asked)? + "\n";
    stream.write_all(line.as_bytes()).await?;
    let mut text = String::new();
    stream
        .take(MESSAGE_BYTES_MAX)
        .read_to_string(&mut text)
        .await?;
    Ok(serde_json::from_str(&text)?)
}
