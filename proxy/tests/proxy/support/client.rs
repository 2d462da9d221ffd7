//! A client that sees every byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// A GET on a connection of its own.
pub(crate) async fn get(proxy: SocketAddr, path: &str) -> Answer {
    Client::connect(proxy).await.ask("GET", path, "").await
}

/// A PUT on a connection of its own.
pub(crate) async fn put(proxy: SocketAddr, path: &str, body: &str) -> Answer {
    Client::connect(proxy).await.ask("PUT", path, body).await
}

impl Client {
    pub(crate) async fn connect(proxy: SocketAddr) -> Client {
        let socket = TcpStream::connect(proxy).await.unwrap();
        Client {
            socket,
            received: vec![],
        }
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, body).await;
        self.answer(method).await
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &str) {
        let length = match body.is_empty() {
            true => String::new(),
            false => {
                let form = "Content-Type: application/x-www-form-urlencoded\r\n";
                format!("{form}Content-Length: {}\r\n", body.len())
            }
        };
        let text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost:4001\r\n{length}\r\n{body}");
        self.send_bytes(text.as_bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head().await;
        answer.body = match (answer.field("Content-Length"), method) {
            (_, "HEAD") => String::new(),
            (Some(length), _) => self.take(length.parse().unwrap()).await,
            (None, _) => self.chunks().await,
        };
        answer
    }

    pub(crate) async fn head(&mut self) -> Answer {
        let end = self.position(b"\r\n\r\n").await + 4;
        let head = self.take(end).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = String::new();
        Answer { status, head, body }
    }

    /// All chunks to the last.
    pub(crate) async fn chunks(&mut self) -> String {
        let mut body = String::new();
        while let Some(chunk) = self.chunk().await {
            body += &chunk;
        }
        body
    }

    /// `None`: the last one.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        let end = self.position(b"\r\n").await;
        let line = self.take(end + 2).await;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let chunk = self.take(size + 2).await;
        Some(chunk[..size].to_owned()).filter(|_| size != 0)
    }

    /// Whether the connection is closed by now, before anything else comes.
    pub(crate) async fn is_cut(&mut self) -> bool {
        let mut part = [0; 16];
        let read = self.socket.read(&mut part);
        matches!(
            tokio::time::timeout(PATIENCE, read).await.unwrap(),
            Ok(0) | Err(_)
        )
    }

    /// The same, but what comes is kept.
    pub(crate) async fn is_cut_or_more(&mut self) -> bool {
        if !self.received.is_empty() {
            return false;
        }
        let mut part = [0; 1024];
        let read = self.socket.read(&mut part);
        match tokio::time::timeout(PATIENCE, read).await.unwrap() {
            Ok(0) | Err(_) => true,
            Ok(read) => {
                self.received.extend_from_slice(&part[..read]);
                false
            }
        }
    }

    async fn take(&mut self, length: usize) -> String {
        while self.received.len() < length {
            self.fill().await;
        }
        let rest = self.received.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.received, rest)).unwrap()
    }

    async fn position(&mut self, of: &[u8]) -> usize {
        loop {
            let found = self.received.windows(of.len()).position(|part| part == of);
            match found {
                Some(found) => return found,
                None => self.fill().await,
            }
        }
    }

    async fn fill(&mut self) {
        // On the heap: futures hold futures, and a test's stack is small.
        let mut part = vec![0; 64 * 1024];
        let read = self.socket.read(&mut part);
        let read = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("an answer in time")
            .unwrap();
        assert_ne!(
            read,
            0,
            "the connection closed after {:?}",
            String::from_utf8_lossy(&self.received)
        );
        self.received.extend_from_slice(&part[..read]);
    }
}
