//! A minimal HTTP client, so that the tests do not check our client with itself.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(method: &str, url: &str, form: &str) -> Result<Response> {
    timeout(Duration::from_secs(10), exchange(method, url, form))
        .await
        .with_context(|| format!("{method} {url} took too long"))?
}

/// A connection on which the request has been sent.
pub(crate) async fn send(method: &str, url: &str, form: &str) -> Result<TcpStream> {
    let rest = url.strip_prefix("http://").context("not http")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).await?;
    let kind = "application/x-www-form-urlencoded";
    let length = form.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{form}"
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

async fn exchange(method: &str, url: &str, form: &str) -> Result<Response> {
    let mut stream = send(method, url, form).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let (head, body) = (head.to_owned(), body.to_owned());
    Ok(Response { status, head, body })
}

/// Waits until a server answers 200.
pub(crate) async fn until_ok(url: &str) -> Result<()> {
    for _ in 0..300 {
        let asking = timeout(Duration::from_millis(500), exchange("GET", url, ""));
        if let Ok(Ok(Response { status: 200, .. })) = asking.await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{url} does not come up")
}
