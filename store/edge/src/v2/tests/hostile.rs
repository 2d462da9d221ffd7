//! Clients that misbehave: each is answered or cut off, and the next one is served.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Port, get, put, raw, start, within};

async fn still_serves(port: &Port) {
    let answer = put(port, "/v2/keys/alive", "value=1").await;
    assert!(answer.status.starts_with("20"), "{}", answer.status);
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

const TOO_LARGE: &str = concat!(
    r#"{"errorCode":210,"message":"Invalid POST form","#,
    r#""cause":"http: POST too large","index":0}"#,
    "\n"
);

/// curl sends large forms only after "100 Continue".
#[tokio::test]
async fn a_hundred_megabytes_are_refused_before_they_are_sent() {
    let port = start().await;
    let head = format!(
        "PUT /v2/keys/big HTTP/1.1\r\nHost: x\r\n{FORM}Content-Length: 104857600\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    let answer = Answer::parse(&raw(&port, head.as_bytes()).await);
    assert_eq!(answer.status, "400 Bad Request");
    assert_eq!(answer.text(), TOO_LARGE);
    still_serves(&port).await;
}

/// A chunked body without a length.
#[tokio::test]
async fn a_body_without_an_end_is_cut() {
    let port = start().await;
    let mut socket = port.connect().await;
    let head =
        format!("POST /v2/keys/q HTTP/1.1\r\nHost: x\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let piece = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    let flood = async {
        // 1,600 chunks are 100 MB.
        for sent in 0..1600 {
            if socket.write_all(piece.as_bytes()).await.is_err() {
                return sent;
            }
        }
        1600
    };
    let sent = within(flood).await;
    assert!(sent < 1600, "the server did not stop it");
    still_serves(&port).await;
}

#[tokio::test]
async fn a_value_that_the_log_does_not_take_is_refused() {
    let port = start().await;
    let value = format!("value={}", "a".repeat(100_000));
    let answer = put(&port, "/v2/keys/big", &value).await;
    assert_eq!(answer.status, "400 Bad Request");
    let expected = concat!(
        r#"{"errorCode":210,"message":"Invalid POST form","#,
        r#""cause":"etcdserver: request is too large","index":0}"#,
        "\n"
    );
    assert_eq!(answer.text(), expected);
}

#[tokio::test]
async fn a_body_that_stops_is_an_error() {
    let port = start().await;
    let mut socket = port.connect().await;
    let half = format!(
        "PUT /v2/keys/half HTTP/1.1\r\nHost: x\r\n{FORM}Content-Length: 100\r\n\r\nvalue=1"
    );
    socket.write_all(half.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // The connection is closed, with or without an answer.
    let _ = within(socket.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 20"));
    assert_eq!(get(&port, "/v2/keys/half").await.status, "404 Not Found");
}

/// tokio's clock is paused: it advances while every task waits.
#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_cut() {
    let port = start().await;
    let mut socket = port.connect().await;
    let head =
        format!("PUT /v2/keys/slow HTTP/1.1\r\nHost: x\r\n{FORM}Content-Length: 10000\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    // The request has been read by then.
    still_serves(&port).await;
    tokio::time::pause();
    let mut answer = Vec::new();
    let mut sent = 0;
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            read = socket.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
            },
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                sent += 1;
                assert!(sent < 120, "the server did not stop it");
                let _ = socket.write_all(b"a").await;
            }
        }
    }
    tokio::time::resume();
    let answer = Answer::parse(&answer);
    assert_eq!(answer.status, "400 Bad Request");
    assert!(answer.text().contains("unexpected EOF"));
    still_serves(&port).await;
}

#[tokio::test]
async fn two_thousand_segments_are_a_path() {
    let port = start().await;
    let path = format!("/v2/keys{}", "/a".repeat(2_000));
    let answer = put(&port, &path, "value=1").await;
    assert_eq!(answer.status, "201 Created");
    let answer = get(&port, "/v2/keys/a?recursive=true").await;
    assert_eq!(answer.status, "200 OK");
    assert!(answer.text().ends_with("}]}}\n") || answer.text().contains(r#""value":"1""#));
    let deleted = super::ask(&port, "DELETE", "/v2/keys/a?recursive=true", "", None).await;
    assert_eq!(deleted.status, "200 OK");
    still_serves(&port).await;
}

#[tokio::test]
async fn long_keys_are_keys_and_longer_heads_are_refused() {
    let port = start().await;
    let answer = get(&port, &format!("/v2/keys/{}", "a".repeat(4_000))).await;
    assert_eq!(answer.status, "404 Not Found");
    let answer = get(&port, &format!("/v2/keys/{}", "a".repeat(200_000))).await;
    assert!(answer.status.starts_with("4"), "{}", answer.status);
    still_serves(&port).await;
}

#[tokio::test]
async fn many_parameters_are_parsed_in_no_time() {
    let port = start().await;
    let query = "recursive=true&".repeat(4_000);
    let answer = get(&port, &format!("/v2/keys/foo?{query}")).await;
    assert_eq!(answer.status, "404 Not Found");
    let many = "; a=b".repeat(1_000);
    let content_type = format!("Content-Type: text/plain{many}\r\n");
    let answer = super::ask(&port, "PUT", "/v2/keys/foo", &content_type, Some("x")).await;
    assert_eq!(answer.status, "400 Bad Request");
    still_serves(&port).await;
}

#[tokio::test]
async fn json_without_a_bottom_is_refused() {
    let port = start().await;
    let json = "Content-Type: application/json\r\n";
    for target in ["/v2/members", "/v2/auth/users/x", "/config/local/log"] {
        let method = if target == "/v2/members" {
            "POST"
        } else {
            "PUT"
        };
        let deep = "[".repeat(50_000);
        let answer = super::ask(&port, method, target, json, Some(&deep)).await;
        assert_eq!(answer.status, "400 Bad Request", "{target}");
    }
    still_serves(&port).await;
}

#[tokio::test]
async fn what_is_no_path_is_refused() {
    let port = start().await;
    for target in ["/v2/keys/%", "/v2/keys/%zz", "/v2/%2", "/v2/keys/%-1"] {
        let answer = get(&port, target).await;
        assert_eq!(answer.status, "400 Bad Request", "{target}");
        assert_eq!(answer.text(), "400 Bad Request");
    }
    for request in ["GET /v2/keys/a b HTTP/1.1", "GET /v2/keys/\x01 HTTP/1.1"] {
        let answer = raw(&port, format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{request}");
    }
    still_serves(&port).await;
}

/// Go accepts characters that should be escaped; the http crate does not.
#[tokio::test]
async fn every_character_that_is_seen_may_be_in_a_target() {
    let port = start().await;
    for before in ["", "?"] {
        for byte in 0x21..0x7f_u8 {
            let character = char::from(byte);
            let answer = get(&port, &format!("/v2/keys/{before}a{character}b")).await;
            // Keelson's own error has a body.
            let is_http = answer.status != "400 Bad Request" || !answer.body.is_empty();
            assert!(is_http, "{before}{character}");
        }
    }
}

#[tokio::test]
async fn paths_of_other_apis_are_cleaned_too() {
    let port = start().await;
    for (target, location) in [
        ("//health?serializable=true", "/health?serializable=true"),
        ("//v2/keys/foo", "/v2/keys/foo"),
        ("/v3/../v2/machines", "/v2/machines"),
        ("/../..", "/"),
    ] {
        let answer = get(&port, target).await;
        assert_eq!(answer.status, "301 Moved Permanently", "{target}");
        assert!(answer.has(&format!("Location: {location}")), "{target}");
        assert!(answer.has("Access-Control-Allow-Origin: *"), "{target}");
    }
    assert_eq!(get(&port, "/health").await.status, "200 OK");
    assert_eq!(get(&port, "/health/%zz").await.status, "404 Not Found");
}

/// 62 KB of directories turned every GET of 60 bytes into a gigabyte.
#[tokio::test]
async fn a_key_of_thirty_thousand_names_is_refused() {
    let port = start().await;
    let long = concat!(
        r#"{"errorCode":209,"message":"Invalid field","#,
        r#""cause":"the key has more than 4094 bytes","index":0}"#,
        "\n"
    );
    let deep = format!("/v2/keys{}", "/a".repeat(31_000));
    let escaped = format!("/v2/keys{}", "/%61".repeat(3_000));
    for target in [&deep, &escaped] {
        for answer in [
            put(&port, target, "value=1").await,
            get(&port, target).await,
        ] {
            assert_eq!(answer.status, "400 Bad Request");
            assert_eq!(answer.text(), long);
        }
    }
    let fits = format!("/v2/keys{}", "/a".repeat(2047));
    assert_eq!(put(&port, &fits, "value=1").await.status, "201 Created");
    assert_eq!(get(&port, &fits).await.status, "200 OK");
    let over = format!("{fits}/a");
    assert_eq!(put(&port, &over, "value=1").await.status, "400 Bad Request");
}
