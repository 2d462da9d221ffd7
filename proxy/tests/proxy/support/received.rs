//! A request, read to its end.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::Seen;

/// The next request; `None`: the client has left.
pub(crate) async fn receive(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = vec![];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        fill(socket, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes.split_off(end);
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        let length: usize = length.parse().unwrap();
        while body.len() < length {
            fill(socket, &mut body).await?;
        }
    } else if lower.contains("transfer-encoding: chunked") {
        while !body.ends_with(b"0\r\n\r\n") {
            fill(socket, &mut body).await?;
        }
    }
    Some(Seen {
        line: head.lines().next().unwrap().to_owned(),
        head,
        body: String::from_utf8(body).unwrap(),
    })
}

async fn fill(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut part = vec![0; 64 * 1024];
    let read = socket
        .read(&mut part)
        .await
        .ok()
        .filter(|read| *read != 0)?;
    bytes.extend_from_slice(&part[..read]);
    Some(())
}
