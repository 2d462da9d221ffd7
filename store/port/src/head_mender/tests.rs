//! What is mended, what is not, and that it does not matter how the bytes arrive.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const HEAD_BYTES_MAX: usize = 64 * 1024;

/// However the bytes arrive and are taken, the same bytes leave.
#[track_caller]
fn check(sent: &str, expected: &str) {
    let sent = sent.as_bytes();
    for size in [1, 2, 5, 7, sent.len()] {
        for room in [1, 3, 1024] {
            let left = all(sent, size, room);
            assert_eq!(String::from_utf8_lossy(&left), expected, "{size} {room}");
        }
    }
}

/// Everything that leaves when so much arrives at a time, and so much is taken.
fn all(sent: &[u8], size: usize, room: usize) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(size.max(1));
        let mut mender = HeadMender::new(server, HEAD_BYTES_MAX);
        let sending = async {
            client.write_all(sent).await.expect("a reader");
            drop(client);
        };
        let taking = async {
            let mut left = vec![];
            let mut part = vec![0; room];
            loop {
                match mender.read(&mut part).await.expect("no errors") {
                    0 => return left,
                    read => left.extend_from_slice(&part[..read]),
                }
            }
        };
        tokio::join!(sending, taking).1
    })
}

const REST: &str = " HTTP/1.1\r\nHost: \"<a>\"\r\n\r\n";

#[test]
fn the_targets_of_requests_are_mended() {
    let quoted = format!("PUT /v2/keys/<a>?prevValue=\"x\"&b=1{REST}");
    let mended = format!("PUT /v2/keys/%3Ca%3E?prevValue=%22x%22&b=1{REST}");
    check(&quoted, &mended);
    // Also of those that follow on the same connection.
    check(&quoted.repeat(3), &mended.repeat(3));
    let fine = format!("GET /v2/keys/a?b=%22é{REST}");
    check(&fine, &fine);
    let body =
        "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nGET /\"b\" HTTP/1.1\r\n\r\n\"<>";
    check(&format!("{body}{quoted}"), &format!("{body}{mended}"));
}

/// `X-A: 1`, a line break and ` 2`: Go joins them.
#[test]
fn folded_headers_are_joined_as_in_go() {
    let folded = "GET /a HTTP/1.1\r\nHost: x\r\nX-A: 1 \r\n  2\r\n\t3\r\nX-B: 4\r\n\r\n";
    let joined = "GET /a HTTP/1.1\r\nHost: x\r\nX-A: 1 2 3\r\nX-B: 4\r\n\r\n";
    check(folded, joined);
    check(&folded.repeat(2), &joined.repeat(2));
    let length = "PUT /a HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\na\r\n";
    let joined_length = "PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\na\r\n";
    check(
        &format!("{length}{folded}"),
        &format!("{joined_length}{joined}"),
    );
}

#[test]
fn after_anything_ambiguous_nothing_is_mended() {
    let quoted = format!("GET /\"b\"{REST}");
    let folded = "GET /a HTTP/1.1\r\nX: 1\r\n 2\r\n\r\n";
    for odd in [
        "\r\nGET /\"a\" HTTP/1.1\r\n\r\n",
        "G\"T /a HTTP/1.1\r\n\r\n",
        "GET /a\r\n\"b\": 1\r\n\r\n",
        "GET /a\t\"b\" HTTP/1.1\r\n\r\n",
        "GET /a \"b\" HTTP/1.1\r\n\r\n",
        "get /\"a\" HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\n\n",
        "GET /a HTTP/1.1\r\nX: 1\n\r\n",
        "GET /a HTTP/1.1\r\nX: 1\rY: 2\r\n\r\n",
        "GET /a HTTP/1.1\r\n folded: first\r\n\r\n",
        "GET /a HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        "PUT /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "PUT /a HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        "PUT /a HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /a HTTP/1.1\r\ncontent-length: 0\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let sent = format!("{odd}{quoted}{folded}");
        check(&sent, &sent);
    }
    let half = "GET /\"a\" HTTP/1.1\r\nHost";
    check(half, half);
    let long = format!(
        "GET /\"a\" HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(HEAD_BYTES_MAX)
    );
    assert!(all(long.as_bytes(), 9000, 9000) == long.as_bytes());
}

proptest! {
    /// What has neither folds nor quotes leaves unchanged.
    #[test]
    fn nothing_else_is_changed(
        lines in prop::collection::vec("[A-Za-z:/ 0-9.-]{0,20}(\r\n|\n|\r\n\r\n)", 0..12),
        size in 1..40_usize,
    ) {
        let lines: Vec<_> = lines.iter().map(|line| line.trim_start_matches(' ')).collect();
        let sent = lines.concat();
        prop_assert_eq!(all(sent.as_bytes(), size, 16), sent.as_bytes());
    }
}
