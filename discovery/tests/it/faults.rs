//! A TCP proxy that can lose an answer, or send one of its own.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The treatment of a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Pass,
    /// The server does not receive it.
    LoseRequest,
    /// The server carries it out; the client gets no answer.
    LoseAnswer,
    /// The proxy answers it.
    Answer(String),
}

/// Listens until dropped.
pub(crate) struct Faults {
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Faults {
    /// Listens in front of a port. `decide` gets each connection's first request line.
    pub(crate) async fn before(
        server: u16,
        decide: impl Fn(&str) -> Fate + Send + Sync + 'static,
    ) -> Result<Faults> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let decide = Arc::new(decide);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let decide = Arc::clone(&decide);
                tokio::spawn(async move {
                    let _ = one(stream, server, &*decide).await;
                });
            }
        });
        Ok(Faults { port, accepting })
    }

    /// The same URL, through this proxy.
    pub(crate) fn through(&self, url: &str, server: u16) -> String {
        url.replace(&format!(":{server}/"), &format!(":{}/", self.port))
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn one(mut client: TcpStream, server: u16, decide: &impl Fn(&str) -> Fate) -> Result<()> {
    let request = whole_request(&mut client).await?;
    let text = String::from_utf8_lossy(&request);
    let fate = decide(text.lines().next().unwrap_or_default());
    if let Fate::Answer(answer) = fate {
        return Ok(client.write_all(answer.as_bytes()).await?);
    }
    if matches!(fate, Fate::LoseRequest) {
        return Ok(());
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).await?;
    upstream.write_all(&request).await?;
    if matches!(fate, Fate::LoseAnswer) {
        let mut first = [0; 1];
        upstream.read_exact(&mut first).await?;
        return Ok(());
    }
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

async fn whole_request(client: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = client.read(&mut buffer).await?;
        anyhow::ensure!(0 < count, "no request");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap_or("0").trim().parse().context("a length")?;
        if length <= body.len() {
            return Ok(bytes);
        }
    }
}
