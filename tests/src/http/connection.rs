//! One connection at a time, kept while the server keeps it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{Reply, Request};

/// How long a server may think: longer than any of its own timeouts.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// No reply has a head larger than this.
const HEAD_LIMIT: usize = 1 << 20;

/// How much a read asks for.
const READ: usize = 16 << 10;

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    host: String,
    patience: Duration,
    sends_twice: bool,
    kept: Option<Wire>,
}

impl Client {
    /// A client of the server at `url` (`http://host:port`); connects when first used.
    pub fn new(url: &str) -> Client {
        Client {
            host: url.trim_start_matches("http://").to_string(),
            patience: PATIENCE,
            sends_twice: true,
            kept: None,
        }
    }

    /// A client that gives a request so long.
    pub fn patient(url: &str, patience: Duration) -> Client {
        Client {
            patience,
            ..Client::new(url)
        }
    }

    /// A client that sends nothing twice: a kept connection that is found closed is an error.
    pub fn once(url: &str, patience: Duration) -> Client {
        Client {
            sends_twice: false,
            ..Client::patient(url, patience)
        }
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends the request and reads the whole reply.
    ///
    /// # Errors
    /// No connection, no reply in time, or something that is no HTTP. The text tells which.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply> {
        let patience = self.patience;
        let answer = timeout(patience, self.ask_now(request)).await;
        answer.with_context(|| format!("no answer in {patience:?}"))?
    }

    async fn ask_now(&mut self, request: &Request) -> Result<Reply> {
        let bytes = request.encode(&self.host);
        let (mut wire, head) = match self.kept.take() {
            // The server may have closed a kept connection; then the request never reached it.
            Some(mut wire) => match wire.exchange(&bytes).await {
                Ok(head) => (wire, head),
                Err(Broken::Unheard) if self.sends_twice => self.fresh(&bytes).await?,
                Err(Broken::Unheard) => bail!("closed without an answer"),
                Err(Broken::Other(error)) => return Err(error),
            },
            None => self.fresh(&bytes).await?,
        };
        let mut length = wire.length(request, &head)?;
        let mut reply = head;
        while !wire.body(&mut length, &mut reply.body).await? {}
        let close = reply
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !close && !matches!(length, Length::UntilClose) && wire.buffer.is_empty() {
            self.kept = Some(wire);
        }
        Ok(reply)
    }

    async fn fresh(&self, bytes: &[u8]) -> Result<(Wire, Reply)> {
        let mut wire = Wire::connect(&self.host).await?;
        match wire.exchange(bytes).await {
            Ok(head) => Ok((wire, head)),
            Err(Broken::Unheard) => bail!("closed without an answer"),
            Err(Broken::Other(error)) => Err(error),
        }
    }

    /// Sends the request on a connection of its own and waits for the head of the reply only.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn open(&self, request: &Request) -> Result<Open> {
        let bytes = request.encode(&self.host);
        let opened = timeout(self.patience, self.fresh(&bytes)).await;
        let (wire, head) = opened.with_context(|| format!("no head in {:?}", self.patience))??;
        let length = wire.length(request, &head)?;
        Ok(Open { head, wire, length })
    }
}

/// A reply whose body is still coming.
#[derive(Debug)]
pub struct Open {
    /// Status and headers; the body has what was read so far.
    pub head: Reply,
    wire: Wire,
    length: Length,
}

impl Open {
    /// Reads some more of the body; true when it has ended.
    ///
    /// # Errors
    /// The connection broke before the end of the body.
    pub async fn more(&mut self) -> Result<bool> {
        self.wire.body(&mut self.length, &mut self.head.body).await
    }
}

/// Why there is no reply.
enum Broken {
    /// The connection was closed, and no byte had come.
    Unheard,
    Other(anyhow::Error),
}

/// How the end of a body is known.
#[derive(Debug)]
enum Length {
    Fixed(usize),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    async fn connect(host: &str) -> Result<Wire> {
        let stream = TcpStream::connect(host).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let buffer = Vec::new();
        Ok(Wire { stream, buffer })
    }

    async fn exchange(&mut self, bytes: &[u8]) -> Result<Reply, Broken> {
        // A server that refuses early may reset while we write; its reply counts all the same.
        let written = self.stream.write_all(bytes).await;
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let reply = parse_head(&head[..end]).map_err(Broken::Other)?;
                // 100 Continue and its like come before the reply.
                if 200 <= reply.status {
                    return Ok(reply);
                }
                continue;
            }
            if HEAD_LIMIT < self.buffer.len() {
                return Err(Broken::Other(anyhow::Error::msg("an endless head")));
            }
            match self.fill().await {
                Ok(0) | Err(_) if self.buffer.is_empty() => return Err(Broken::Unheard),
                Ok(0) => return Err(Broken::Other(anyhow::Error::msg("cut within the head"))),
                Ok(_) => {}
                Err(error) => return Err(Broken::Other(error.context(format!("{written:?}")))),
            }
        }
    }

    fn length(&self, request: &Request, head: &Reply) -> Result<Length> {
        if request.method == "HEAD" || matches!(head.status, 204 | 304) {
            return Ok(Length::Fixed(0));
        }
        if head.header("transfer-encoding") == Some("chunked") {
            return Ok(Length::Chunked);
        }
        match head.header("content-length") {
            Some(length) => Ok(Length::Fixed(length.parse().context("content-length")?)),
            None => Ok(Length::UntilClose),
        }
    }

    /// Moves what there is of the body; reads once if there is nothing. True at its end.
    async fn body(&mut self, length: &mut Length, body: &mut Vec<u8>) -> Result<bool> {
        match length {
            Length::Fixed(left) => {
                if *left == 0 {
                    return Ok(true);
                }
                if self.buffer.is_empty() {
                    ensure!(self.fill().await? != 0, "cut within the body");
                }
                let part = (*left).min(self.buffer.len());
                body.extend(self.buffer.drain(..part));
                *left -= part;
                Ok(*left == 0)
            }
            Length::Chunked => self.chunk(body).await,
            Length::UntilClose => {
                let ended = self.fill().await? == 0;
                body.append(&mut self.buffer);
                Ok(ended)
            }
        }
    }

    async fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let Some(end) = find(&self.buffer, b"\r\n") else {
            ensure!(self.fill().await? != 0, "cut between chunks");
            return Ok(false);
        };
        let line = std::str::from_utf8(&self.buffer[..end])?;
        let size = usize::from_str_radix(line.trim(), 16).context("a chunk's size")?;
        let whole = end + 2 + size + 2;
        while self.buffer.len() < whole {
            ensure!(self.fill().await? != 0, "cut within a chunk");
        }
        body.extend_from_slice(&self.buffer[end + 2..end + 2 + size]);
        self.buffer.drain(..whole);
        Ok(size == 0)
    }

    async fn fill(&mut self) -> Result<usize> {
        self.buffer.reserve(READ);
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse_head(head: &[u8]) -> Result<Reply> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let code = status
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| status.strip_prefix("HTTP/1.0 "));
    let code = code.with_context(|| format!("no HTTP: {status:?}"))?;
    let code = code.get(..3).and_then(|code| code.parse().ok());
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        headers.push((name.to_lowercase(), value.trim().to_string()));
    }
    headers.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(Reply {
        status: code.with_context(|| format!("no status: {status:?}"))?,
        headers,
        body: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn serve(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            for part in answer.chunks(3) {
                stream.write_all(part).await.unwrap();
            }
        });
        format!("http://{address}")
    }

    async fn ask(answer: &'static [u8]) -> Result<Reply> {
        let url = serve(answer).await;
        Client::new(&url).ask(&Request::get("/")).await
    }

    #[tokio::test]
    async fn bodies_of_every_kind_are_read_to_their_end() {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ];
        for answer in answers {
            let reply = ask(answer).await.unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
        }
    }

    #[tokio::test]
    async fn a_reply_that_is_cut_is_an_error() {
        let answers: [&[u8]; 4] = [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ];
        for answer in answers {
            assert!(ask(answer).await.is_err());
        }
    }

    #[test]
    fn what_is_sent_is_what_was_asked_for() {
        let request = Request::put("/v2/keys//a%zz", "value=1");
        let expected = "PUT /v2/keys//a%zz HTTP/1.1\r\nHost: h:1\r\n\
                        Content-Type: application/x-www-form-urlencoded\r\n\
                        Content-Length: 7\r\n\r\nvalue=1";
        assert_eq!(request.encode("h:1"), expected.as_bytes());
    }
}
