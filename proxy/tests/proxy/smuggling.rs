//! Requests whose end two servers may see at different places. What a member gets from a proxy is
//! never more than the one request, for any bytes of the client, and has one framing.

use crate::support::{Client, Fake, Running, answer};

/// A request that stands in what some servers take for a body.
const HIDDEN: &str = "GET /v2/keys/hidden HTTP/1.1\r\nHost: x\r\n\r\n";

/// The proxy's answers and what members get.
enum Outcome {
    /// Refused with this status, and the connection ends.
    Refused(u16),
    /// Passed, with this body as members get it.
    Passed(&'static str),
}
use Outcome::{Passed, Refused};

/// The chunks of "abcde".
const CHUNKED: &str = "5\r\nabcde\r\n0\r\n\r\n";

/// The fields of a PUT, what follows its head, and what comes of it.
type Framing = (&'static str, String, Outcome);

/// Lengths: by RFC 9112, 6.3.
fn lengths() -> Vec<Framing> {
    vec![
        ("Content-Length: 5\r\n", "abcde".to_owned(), Passed("abcde")),
        (
            "Content-Length: 5\r\nContent-Length: 49\r\n",
            format!("abcde{HIDDEN}"),
            Refused(400),
        ),
        (
            "Content-Length: 0\r\nContent-Length: 5\r\n",
            "abcde".to_owned(),
            Refused(400),
        ),
        (
            "Content-Length: 5, 49\r\n",
            "abcde".to_owned(),
            Refused(400),
        ),
        ("Content-Length: +5\r\n", "abcde".to_owned(), Refused(400)),
        ("Content-Length: 0x5\r\n", "abcde".to_owned(), Refused(400)),
        ("Content-Length: -5\r\n", "abcde".to_owned(), Refused(400)),
        ("Content-Length: 5 0\r\n", "abcde".to_owned(), Refused(400)),
        (
            "Content-Length: 18446744073709551621\r\n",
            "abcde".to_owned(),
            Refused(400),
        ),
        ("Content-Length : 5\r\n", "abcde".to_owned(), Refused(400)),
    ]
}

/// Codings, beside lengths and alone: by RFC 9112, 6.1 to 6.3 and 7.1.
fn codings() -> Vec<Framing> {
    let both = |hidden: &str| format!("5\r\nabcde\r\n0\r\n\r\n{hidden}");
    vec![
        (
            "Transfer-Encoding: chunked\r\n",
            CHUNKED.to_owned(),
            Passed(CHUNKED),
        ),
        (
            "Content-Length: 64\r\nTransfer-Encoding: chunked\r\n",
            both(""),
            Passed(CHUNKED),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            both(""),
            Passed(CHUNKED),
        ),
        (
            "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
            both(HIDDEN),
            Refused(400),
        ),
        (
            "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
            both(HIDDEN),
            Refused(400),
        ),
        (
            "Transfer-Encoding: chunked, identity\r\nContent-Length: 5\r\n",
            both(HIDDEN),
            Refused(400),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            both(HIDDEN),
            Refused(400),
        ),
        (
            "Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n",
            both(HIDDEN),
            Refused(400),
        ),
        (
            "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "abcde".to_owned(),
            Refused(400),
        ),
        (
            "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "abcde".to_owned(),
            Passed("abcde"),
        ),
        (
            "X: y\nTransfer-Encoding: chunked\r\n",
            CHUNKED.to_owned(),
            Passed(CHUNKED),
        ),
        (
            "Connection: content-length\r\nContent-Length: 5\r\n",
            "abcde".to_owned(),
            Passed("abcde"),
        ),
        (
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            CHUNKED.to_owned(),
            Passed(CHUNKED),
        ),
    ]
}

/// Bodies in chunks.
fn chunks() -> Vec<(&'static str, String, Outcome)> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let refused = |body: &str| (chunked, format!("{body}{HIDDEN}"), Refused(400));
    vec![
        (
            chunked,
            "5;ext=\"1\"\r\nabcde\r\n0\r\n\r\n".to_owned(),
            Passed(CHUNKED),
        ),
        (
            chunked,
            "5\r\nabcde\r\n0\r\nContent-Length: 50\r\n\r\n".to_owned(),
            Passed(CHUNKED),
        ),
        refused("5;ext\nabcde\r\n0\r\n\r\n"),
        refused("5\nabcde\n0\n\n"),
        refused("0x5\r\nabcde\r\n0\r\n\r\n"),
        refused("+5\r\nabcde\r\n0\r\n\r\n"),
        refused("10000000000000005\r\nabcde\r\n0\r\n\r\n"),
        refused("5\r\nabcdefgh\r\n0\r\n\r\n"),
        refused("5\r\nabcde0\r\n\r\n"),
        refused("\r\nabcde\r\n0\r\n\r\n"),
    ]
}

#[tokio::test]
async fn a_member_gets_one_request_with_one_framing() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    for (number, (fields, body, outcome)) in lengths()
        .into_iter()
        .chain(codings())
        .chain(chunks())
        .enumerate()
    {
        let path = format!("/v2/keys/{number}");
        let request = format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}");
        let mut client = Client::connect(proxy.address).await;
        client.send_bytes(request.as_bytes()).await;
        let status = client.head().await.status;
        let seen = member.seen();
        let of_it = seen.iter().find(|seen| seen.line.contains(&path));
        match outcome {
            Refused(expected) => assert_eq!(status, expected, "{request:?}"),
            Passed(expected) => {
                assert_eq!(status, 200, "{request:?}");
                assert_eq!(
                    of_it.map(|seen| &seen.body[..]),
                    Some(expected),
                    "{request:?}"
                );
            }
        }
        for seen in &seen {
            let head = seen.head.to_ascii_lowercase();
            let framings = head.matches("\r\ncontent-length:").count()
                + head.matches("\r\ntransfer-encoding:").count();
            assert!(framings <= 1, "{request:?}: {head}");
            assert!(!seen.line.contains("hidden"), "{request:?}");
        }
    }
    proxy.stop().await;
}
