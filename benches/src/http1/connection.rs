//! One connection of a client.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keelson_tests::http::{Item, ReplyParser, Request};

/// How long a single exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with what it has read.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// What arrived.
    pub replies: ReplyParser,
}

impl Connection {
    /// Connects to `host:port`. Reads and writes have a timeout.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn open(host: &str) -> Result<Connection> {
        let stream = TcpStream::connect(host).with_context(|| format!("no way to {host}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            stream,
            replies: ReplyParser::default(),
        })
    }

    /// Sends a request whole: it is small, and the last answer has been read.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request)?)
    }

    /// Takes what has arrived, once; false when the peer has closed.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Result<bool> {
        match self.stream.read(scratch) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.replies.push(&scratch[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends one request and waits for its answer: status and body.
    ///
    /// # Errors
    /// No answer in time, or none that can be understood.
    pub fn exchange(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.send(request)?;
        self.answer()
    }

    /// Waits for the answer to what was sent: status and body.
    ///
    /// # Errors
    /// No answer in time, or none that can be understood.
    pub fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let (mut status, mut body, mut scratch) = (0, Vec::new(), [0; 4096]);
        loop {
            while let Some(item) = self.replies.item()? {
                match item {
                    Item::Head(code, _) => status = code,
                    Item::Data(data) => body.extend_from_slice(data),
                    Item::End => return Ok((status, body)),
                }
            }
            match self.stream.read(&mut scratch)? {
                0 => bail!("the connection was closed before the answer"),
                length => self.replies.push(&scratch[..length]),
            }
        }
    }
}

/// One request on a connection of its own: status and body.
///
/// # Errors
/// No answer in time, or none that can be understood.
pub fn once(url: &str, request: &Request) -> Result<(u16, Vec<u8>)> {
    let host = super::host(url)?;
    Connection::open(host)?.exchange(&request.encode(host))
}
