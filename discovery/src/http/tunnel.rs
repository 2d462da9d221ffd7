//! Through an HTTP proxy to an https service: `CONNECT`, and then TLS with the service itself.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::{HttpError, address_of};

/// No proxy has more to say before the tunnel is there.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What a proxy whose URL has a user's name is told: `Proxy-Authorization`.
pub(super) fn credentials(proxy: &Url) -> Option<String> {
    let password = proxy.password().unwrap_or_default();
    if proxy.username().is_empty() && password.is_empty() {
        return None;
    }
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let both = [plain(proxy.username()), plain(password)].join(&b':');
    Some(format!("Basic {}", STANDARD.encode(both)))
}

/// Has the proxy connect to the URL's host.
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
    let mut ask = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(credentials) = credentials(proxy) {
        ask += &format!("Proxy-Authorization: {credentials}\r\n");
    }
    ask += "\r\n";
    stream.write_all(ask.as_bytes()).await.map_err(broken)?;
    let head = head(&mut stream).await.map_err(broken)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if head.starts_with("HTTP/1.") && status.starts_with('2') {
        return Ok(stream);
    }
    let answer = head.lines().next().unwrap_or_default();
    Err(match status.parse() {
        // As an answer of the service itself would be: time may mend it.
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

/// Byte by byte: what comes after it is TLS's.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if HEAD_BYTES_MAX <= head.len() {
            return Err(io::Error::other("too long an answer to CONNECT"));
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
