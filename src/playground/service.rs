//! The playground's discovery service, and the URL that every host is given.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_discovery::{DiscoveryError, Size, SizeError};
use keelson_proxy::ClientTls;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::arguments::Arguments;
use super::{child, plan};
use crate::host::data_dir::DirectoryRole;

/// Time limit for the service to listen.
const START_MAX: Duration = Duration::from_secs(30);

/// The interval at which its port is checked.
const POLL: Duration = Duration::from_millis(20);

/// The discovery URL and its service.
pub(super) struct Discovery {
    /// The URL that every host is given.
    pub(super) url: String,
    /// `None` when the role of every host is in its data already.
    service: Option<Child>,
}

/// Why there is no URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    #[error("cannot start the discovery service: {0}")]
    Spawn(io::Error),
    #[error("the discovery service {0}. The end of its log:\n{1}")]
    Ended(String, String),
    #[error("the discovery service does not listen after {0} seconds. The end of its log:\n{1}")]
    Late(u64, String),
    #[error("{0}")]
    Token(#[from] DiscoveryError),
    #[error("{0}")]
    Size(#[from] SizeError),
    #[error("cannot keep the discovery URL in {0}: {1}")]
    Kept(PathBuf, io::Error),
    #[error(
        "the data in {0} was made with other ports (its discovery URL is {1}): start it with the \
         same --base-port, or choose another --data-dir"
    )]
    OtherPorts(PathBuf, String),
    #[error(
        "the data in {0} is of more hosts, {1} among them: without them there may be no majority. \
         Start as many --members and --proxies as before, or choose another --data-dir"
    )]
    MoreHosts(PathBuf, String),
}

impl Discovery {
    /// The URL of an earlier run, or a new one; and the service, if any host will use it.
    pub(super) async fn bring_up(
        arguments: &Arguments,
        data: &Path,
    ) -> Result<Discovery, ServiceError> {
        let file = data.join("discovery.url");
        let port = plan::service_port(arguments);
        let kept = kept_url(&file, &plan::url(port))?;
        let dirs = plan::data_dirs(arguments, data);
        if let Some(name) = plan::host_beyond(arguments, data) {
            return Err(ServiceError::MoreHosts(data.to_owned(), name));
        }
        let undecided = dirs
            .iter()
            .any(|dir| matches!(DirectoryRole::of(dir), Ok(DirectoryRole::Undecided)));
        if let Some(url) = kept.clone().filter(|_| !undecided) {
            return Ok(Discovery { url, service: None });
        }
        let service = Some(start(data, port).await?);
        if let Some(url) = kept {
            return Ok(Discovery { url, service });
        }
        let size: Size = arguments.members.to_string().parse()?;
        let url =
            keelson_discovery::new_token(&plan::url(port), size, &ClientTls::default()).await?;
        let url = url.as_str().to_owned();
        std::fs::write(&file, &url).map_err(|error| ServiceError::Kept(file, error))?;
        Ok(Discovery { url, service })
    }

    pub(super) fn is_running(&self) -> bool {
        self.service.is_some()
    }

    /// Sends SIGTERM to the service.
    pub(super) fn terminate(&self) {
        self.service.iter().for_each(child::terminate);
    }

    /// Returns when the service has ended.
    pub(super) async fn ended(&mut self) {
        if let Some(service) = &mut self.service {
            let _ = service.wait().await;
        }
    }

    /// Kills the service and waits for its end. Has no effect after its end.
    pub(super) async fn kill(&mut self) {
        if let Some(service) = &mut self.service {
            let _ = service.kill().await;
        }
    }
}

fn kept_url(file: &Path, service: &str) -> Result<Option<String>, ServiceError> {
    let url = match std::fs::read_to_string(file) {
        Ok(url) => url.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ServiceError::Kept(file.to_owned(), error)),
    };
    if url.is_empty() {
        return Ok(None);
    }
    if url.starts_with(&format!("{service}/")) {
        return Ok(Some(url));
    }
    let data = file.parent().unwrap_or(file).to_owned();
    Err(ServiceError::OtherPorts(data, url))
}

/// Starts the service, and waits until it listens.
async fn start(data: &Path, port: u16) -> Result<Child, ServiceError> {
    let address = format!("127.0.0.1:{port}");
    let log = data.join("discovery.log");
    let dir = data.join("discovery").display().to_string();
    // Tokens do not expire, so that a playground that continues after months has the same token.
    let words = [
        "discovery",
        "serve",
        "--addr",
        &address,
        "--data-dir",
        &dir,
        "--token-days",
        "0",
    ];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let program = child::own_program().map_err(ServiceError::Spawn)?;
    let mut child = child::spawn(&program, &words, &log).map_err(ServiceError::Spawn)?;
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(&address).await.is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(ServiceError::Ended(
                child::describe(status),
                child::tail(&log),
            ));
        }
        if deadline < Instant::now() {
            return Err(ServiceError::Late(START_MAX.as_secs(), child::tail(&log)));
        }
        sleep(POLL).await;
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_kept_for_its_ports_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("discovery.url");
        let kept = |service| kept_url(&file, service);
        assert_eq!(kept("http://127.0.0.1:2387").unwrap(), None);
        std::fs::write(&file, "http://127.0.0.1:2387/abc\n").unwrap();
        let url = kept("http://127.0.0.1:2387").unwrap();
        assert_eq!(url.as_deref(), Some("http://127.0.0.1:2387/abc"));
        for other in ["http://127.0.0.1:238", "http://127.0.0.1:12387"] {
            let error = kept(other).unwrap_err().to_string();
            assert!(error.contains("--base-port"), "{error}");
        }
    }
}
