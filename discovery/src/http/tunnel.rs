//! A tunnel through an HTTP proxy to an https service: `CONNECT`, then TLS with the service itself.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::{HttpError, address_of};

/// Bound on the proxy's answer to `CONNECT`, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// `Proxy-Authorization`, for a proxy whose URL has a user name.
pub(super) fn credentials(proxy: &Url) -> Option<String> {
    let password = proxy.password().unwrap_or_default();
    if proxy.username().is_empty() && password.is_empty() {
        return None;
    }
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let both = [plain(proxy.username()), plain(password)].join(&b':');
    Some(format!("Basic {}", STANDARD.encode(both)))
}

/// Opens a tunnel through the proxy to the URL's host.
pub(super) async fn open(
    mut stream: TcpStream,
    proxy: &Url,
    url: &Url,
) -> Result<TcpStream, HttpError> {
    let broken = |error: io::Error| HttpError::Broken {
        address: address_of(proxy),
        reason: error.to_string(),
    };
    let to = address_of(url);
    let mut connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(credentials) = credentials(proxy) {
        connect += &format!("Proxy-Authorization: {credentials}\r\n");
    }
    connect += "\r\n";
    stream.write_all(connect.as_bytes()).await.map_err(broken)?;
    let head = head(&mut stream).await.map_err(broken)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if head.starts_with("HTTP/1.") && status.starts_with('2') {
        return Ok(stream);
    }
    let answer = head.lines().next().unwrap_or_default();
    Err(match status.parse() {
        // Treated as the same status of the service itself would be: a retry may help.
        Ok(408 | 429 | 500..=599) => {
            broken(io::Error::other(format!("{answer:?} to CONNECT {to}")))
        }
        _ => HttpError::NoTunnel {
            proxy: address_of(proxy),
            to,
            answer: answer.to_owned(),
        },
    })
}

/// Reads byte by byte: the bytes that follow the head belong to TLS.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if HEAD_BYTES_MAX <= head.len() {
            return Err(io::Error::other("the answer to CONNECT is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_the_proxy_is_named() {
        let told = |text| credentials(&Url::parse(text).expect("a URL"));
        assert_eq!(told("http://h:3128"), None);
        // RFC 7617's example.
        let expected = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(
            told("http://Aladdin:open%20sesame@h").as_deref(),
            Some(expected)
        );
    }
}
