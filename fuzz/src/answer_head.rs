//! Any bytes as a member's answer: a head is complete at one byte, and what the proxy takes is what
//! hyper's client takes.

use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Empty;
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use keelson_port::fuzzing::{MemoryStream, advance};
use keelson_proxy::fuzzing::answer_head;

/// The target.
pub fn run(bytes: &[u8]) {
    let Some(head) = answer_head(bytes) else {
        return;
    };
    assert!(answer_head(&bytes[..head.bytes]).is_some(), "not complete");
    assert!(
        answer_head(&bytes[..head.bytes - 1]).is_none(),
        "complete before"
    );
    // hyper's client passes interim answers over, and the proxy's caller does.
    if head.status < 200 {
        return;
    }
    let (status, mut headers, length) = by_hyper(bytes).expect("an answer that hyper takes");
    assert_eq!((head.status, head.length), (status, length));
    for hop in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
    ] {
        headers.remove(hop);
    }
    for name in head.headers.keys() {
        let all = |headers: &HeaderMap| {
            let values = headers.get_all(name).iter();
            values.cloned().collect::<Vec<_>>()
        };
        assert_eq!(all(&head.headers), all(&headers), "{name}");
    }
}

/// Status, fields, and the length of the body, if it is known.
fn by_hyper(bytes: &[u8]) -> Option<(u16, HeaderMap, Option<u64>)> {
    let connection = TokioIo::new(MemoryStream::new(bytes, bytes.len()).of_server());
    let shaking = pin!(http1::handshake::<_, Empty<Bytes>>(connection));
    let (mut sender, connection) = advance(shaking)?.ok()?;
    let mut answer = pin!(sender.send_request(Request::new(Empty::new())));
    let mut connection = pin!(connection);
    for _ in 0..3 {
        let _ = advance(connection.as_mut());
        if let Some(answer) = advance(answer.as_mut()) {
            let (parts, body) = answer.ok()?.into_parts();
            let length = body.size_hint().exact();
            return Some((parts.status.as_u16(), parts.headers, length));
        }
    }
    None
}
