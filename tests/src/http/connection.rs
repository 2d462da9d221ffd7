//! One connection at a time, kept as long as the server keeps it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{Reply, Request};
use super::parser::{Item, ReplyParser};

/// Time limit for a server's answer: above all of its own timeouts.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The size of a read in bytes.
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

    /// A client with this time limit for a request.
    pub fn patient(url: &str, patience: Duration) -> Client {
        Client {
            patience,
            ..Client::new(url)
        }
    }

    /// A client that sends nothing twice: a kept connection that turns out to be closed is an
    /// error.
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
    /// No connection, no reply in time, or a reply that is not HTTP; the text states which.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply> {
        let patience = self.patience;
        let answer = timeout(patience, self.ask_now(request)).await;
        answer.with_context(|| format!("no answer in {patience:?}"))?
    }

    async fn ask_now(&mut self, request: &Request) -> Result<Reply> {
        let bytes = request.encode(&self.host);
        let (mut wire, head) = match self.kept.take() {
            // The server may have closed a kept connection; then the request has not reached it.
            Some(mut wire) => match wire.exchange(request, &bytes).await {
                Ok(head) => (wire, head),
                Err(Broken::Unheard) if self.sends_twice => self.fresh(request, &bytes).await?,
                Err(Broken::Unheard) => bail!("closed without an answer"),
                Err(Broken::Other(error)) => return Err(error),
            },
            None => self.fresh(request, &bytes).await?,
        };
        let mut reply = head;
        while !wire.body(&mut reply.body).await? {}
        let close = reply
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !close && !wire.closed && wire.replies.is_empty() {
            self.kept = Some(wire);
        }
        Ok(reply)
    }

    async fn fresh(&self, request: &Request, bytes: &[u8]) -> Result<(Wire, Reply)> {
        let mut wire = Wire::connect(&self.host).await?;
        match wire.exchange(request, bytes).await {
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
        let opened = timeout(self.patience, self.fresh(request, &bytes)).await;
        let (wire, head) = opened.with_context(|| format!("no head in {:?}", self.patience))??;
        Ok(Open { head, wire })
    }
}

/// A reply whose body is incomplete.
#[derive(Debug)]
pub struct Open {
    /// Status and headers; the body has the bytes read so far.
    pub head: Reply,
    wire: Wire,
}

impl Open {
    /// Reads more of the body; true when it has ended.
    ///
    /// # Errors
    /// The connection broke before the end of the body.
    pub async fn more(&mut self) -> Result<bool> {
        self.wire.body(&mut self.head.body).await
    }
}

/// Why there is no reply.
enum Broken {
    /// The connection was closed before the first byte.
    Unheard,
    Other(anyhow::Error),
}

#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    replies: ReplyParser,
    /// The bytes of a read, before the parser gets them.
    buffer: Vec<u8>,
    closed: bool,
}

impl Wire {
    async fn connect(host: &str) -> Result<Wire> {
        let stream = TcpStream::connect(host).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            replies: ReplyParser::default(),
            buffer: Vec::with_capacity(READ),
            closed: false,
        })
    }

    /// Sends the bytes of the request and waits for the reply's head.
    async fn exchange(&mut self, request: &Request, bytes: &[u8]) -> Result<Reply, Broken> {
        if request.method == "HEAD" {
            self.replies.expect_no_body();
        }
        // A server that refuses early may reset the connection during the write; its reply counts
        // all the same.
        let written = self.stream.write_all(bytes).await;
        let mut unheard = true;
        loop {
            match self.replies.item().map_err(Broken::Other)? {
                Some(Item::Head(status, head)) => {
                    return Reply::of(status, head).map_err(Broken::Other);
                }
                Some(_) => return Err(Broken::Other(anyhow::Error::msg("a body without a head"))),
                None => {}
            }
            match self.fill().await {
                Ok(false) | Err(_) if unheard => return Err(Broken::Unheard),
                Ok(false) => {
                    self.replies.close().map_err(Broken::Other)?;
                    return Err(Broken::Unheard);
                }
                Ok(true) => unheard = false,
                Err(error) => return Err(Broken::Other(error.context(format!("{written:?}")))),
            }
        }
    }

    /// Moves the next part of the body; reads once if there is none. True at its end.
    async fn body(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        match self.replies.item()? {
            Some(Item::Data(data)) => body.extend_from_slice(data),
            Some(Item::End) => return Ok(true),
            Some(Item::Head(..)) => bail!("a head within the body"),
            None => {
                if !self.fill().await? {
                    self.replies.close()?;
                }
            }
        }
        Ok(false)
    }

    /// Reads once; false when the server has closed.
    async fn fill(&mut self) -> Result<bool> {
        self.buffer.clear();
        self.closed = self.stream.read_buf(&mut self.buffer).await? == 0;
        self.replies.push(&self.buffer);
        Ok(!self.closed)
    }
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
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\
                \r\n",
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
