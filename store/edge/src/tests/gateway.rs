//! The JSON gateway. The expected answers were recorded from etcd 3.4.23 with curl, except for
//! the ids.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::{Port, raw, within};

pub(super) async fn post(port: &Port, path: &str, body: &str) -> (String, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let answer = raw(port, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn check(port: &Port, path: &str, request: &str, status: &str, expected: &str) {
    let (head, body) = post(port, path, request).await;
    let first = head.lines().next().unwrap();
    assert_eq!(first, format!("HTTP/1.1 {status}"), "{path} {request}");
    assert!(
        head.contains("\r\nContent-Type: application/json\r\n"),
        "{head}"
    );
    let header = r#""header":{"cluster_id":"48879","member_id":"51966","#;
    assert_eq!(body, expected.replace("HEADER", header), "{path} {request}");
}

const TXN_ANSWER: &str = concat!(
    r#"{HEADER"revision":"3","raft_term":"2"},"succeeded":true,"responses":["#,
    r#"{"response_put":{"header":{"revision":"3"}}},"#,
    r#"{"response_range":{"header":{"revision":"3"},"kvs":["#,
    r#"{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2","#,
    r#""value":"YmF6"}],"count":"1"}}]}"#,
);

#[tokio::test]
async fn a_session_reads_as_etcds() {
    let port = Port::start().await;
    let kv =
        r#"{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}"#;
    let one = format!(r#"{{HEADER"revision":"2","raft_term":"2"}},"kvs":[{kv}],"count":"1"}}"#);
    let txn = r#"{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmFy","result":"EQUAL"}],
        "success":[{"request_put":{"key":"Zm9v","value":"YmF6"}},
        {"requestRange":{"key":"Zm9v"}}]}"#;
    let cases = [
        (
            "/v3/kv/put",
            r#"{"key":"Zm9v","value":"YmFy"}"#,
            r#"{HEADER"revision":"2","raft_term":"2"}}"#,
        ),
        ("/v3/kv/range", r#"{"key":"Zm9v"}"#, &one),
        ("/v3beta/kv/range", r#"{"key":"Zm9v"}"#, &one),
        (
            "/v3/kv/range",
            r#"{"key":"Zm9v","nope":[{}],"limit":5}"#,
            &one,
        ),
        (
            "/v3/kv/range",
            r#"{"key":"Zm9v","limit":"5","sort_order":2}"#,
            &one,
        ),
        (
            "/v3/kv/range",
            r#" {"key":"Zm9v","sort_order":"DESCEND","sortTarget":"VALUE","rangeEnd":null} "#,
            &one,
        ),
        ("/v3/kv/txn", txn, TXN_ANSWER),
        (
            "/v3/kv/deleterange",
            r#"{"key":"Zm9v","prev_kv":true}"#,
            concat!(
                r#"{HEADER"revision":"4","raft_term":"2"},"deleted":"1","prev_kvs":["#,
                r#"{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2","#,
                r#""value":"YmF6"}]}"#,
            ),
        ),
        (
            "/v3/kv/compaction",
            r#"{"revision":"2"}"#,
            r#"{HEADER"revision":"4","raft_term":"2"}}"#,
        ),
        (
            "/v3/maintenance/status",
            "",
            concat!(
                r#"{HEADER"revision":"4","raft_term":"2"},"version":"3.7.1","dbSize":"20480","#,
                r#""leader":"51966","raftIndex":"11","raftTerm":"2","raftAppliedIndex":"11","#,
                r#""dbSizeInUse":"16384"}"#,
            ),
        ),
    ];
    for (path, request, expected) in cases {
        check(&port, path, request, "200 OK", expected).await;
    }
    let members = format!(
        concat!(
            r#"{{HEADER"raft_term":"2"}},"members":[{{"ID":"51966","name":"m1","#,
            r#""peerURLs":["http://127.0.0.1:2380"],"clientURLs":["{}"]}}]}}"#,
        ),
        port.url()
    );
    check(&port, "/v3/cluster/member/list", "{}", "200 OK", &members).await;
}

#[tokio::test]
async fn refusals_read_as_etcds() {
    let port = Port::start().await;
    let cases = [
        (
            "/v3/kv/range",
            "",
            "400 Bad Request",
            "etcdserver: key is not provided",
            3,
        ),
        (
            "/v3/kv/range",
            r#"{"key":"Zm9v","revision":"99"}"#,
            "400 Bad Request",
            "etcdserver: mvcc: required revision is a future revision",
            11,
        ),
        (
            "/v3/cluster/member/remove",
            r#"{"ID":"1"}"#,
            "404 Not Found",
            "etcdserver: member not found",
            5,
        ),
        (
            "/v3/cluster/member/promote",
            r#"{"ID":"1"}"#,
            "400 Bad Request",
            "etcdserver: can only promote a learner member",
            9,
        ),
        (
            "/v3/cluster/member/add",
            "{}",
            "500 Internal Server Error",
            "etcdserver: re-configuration failed due to not enough started members",
            2,
        ),
    ];
    for (path, request, status, text, code) in cases {
        let expected =
            format!(r#"{{"error":"{text}","message":"{text}","code":{code},"details":[]}}"#);
        check(&port, path, request, status, &expected).await;
    }
}

#[tokio::test]
async fn what_does_not_parse_is_an_invalid_argument() {
    let port = Port::start().await;
    let malformed = [
        r#"{"key":"Zm9v""#,
        r#"{"key":"!!"}"#,
        r#"{"limit":"x"}"#,
        r#"{"sort_order":"BOGUS"}"#,
        "[",
        "\u{0}",
    ];
    for body in malformed {
        let (head, body) = post(&port, "/v3/kv/range", body).await;
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert!(body.ends_with(r#","code":3,"details":[]}"#), "{body}");
    }
}

#[tokio::test]
async fn the_gateway_has_its_own_words_for_other_paths_and_methods() {
    let port = Port::start().await;
    let (head, body) = post(&port, "/v3/kv/nope", "{}").await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert_eq!(body, "Not Found\n");
    let (head, body) = super::http(&port, "GET", "/v3/kv/range").await;
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert_eq!(body, "Method Not Allowed\n");
}

#[tokio::test]
async fn the_rules_for_learners_and_leaders_hold() {
    let port = Port::start().await;
    port.fake.set(|state| state.learner = true);
    let text = "etcdserver: rpc not supported for learner";
    let refused = format!(r#"{{"error":"{text}","message":"{text}","code":9,"details":[]}}"#);
    let local = r#"{"key":"Zm9v","serializable":true}"#;
    let none = r#"{HEADER"revision":"1","raft_term":"2"}}"#;
    check(&port, "/v3/kv/range", local, "200 OK", none).await;
    for path in ["/v3/kv/range", "/v3/kv/put", "/v3/cluster/member/list"] {
        check(
            &port,
            path,
            r#"{"key":"Zm9v"}"#,
            "400 Bad Request",
            &refused,
        )
        .await;
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let port = Port::start().await;
    let put = |value: String| format!(r#"{{"key":"Zm9v","value":"{value}"}}"#);
    let (head, body) = post(&port, "/v3/kv/put", &put("A".repeat(100_000))).await;
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert!(body.contains("etcdserver: request is too large"), "{body}");
    let (head, body) = post(&port, "/v3/kv/put", &put("A".repeat(900_000))).await;
    assert!(
        head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
        "{head}"
    );
    let text = "grpc: received message larger than max (675009 vs. 589824)";
    assert!(body.contains(text), "{body}");
}

/// As recorded from etcd 3.4.23: APISIX posts this and reads lines until its own timeout.
#[tokio::test]
async fn a_watch_has_a_chunk_for_each_message() {
    let port = Port::start().await;
    let request = concat!(
        r#"{"create_request":{"key":"Zm9v"}}"#,
        r#"{"create_request":{"key":"Zm9v","start_revision":"99"}}"#,
    );
    let mut socket = port.connect().await;
    let head = format!(
        "POST /v3/watch HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{request}",
        request.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    let header = r#""header":{"cluster_id":"48879","member_id":"51966","#;
    let mut results = async || loop {
        let line = within(lines.next_line()).await.unwrap().unwrap();
        if line.starts_with('{') {
            return line;
        }
    };
    let created = r#""revision":"1","raft_term":"2"},"#;
    let expected = format!("{{\"result\":{{{header}{created}\"created\":true}}}}");
    assert_eq!(results().await, expected);
    let expected =
        format!("{{\"result\":{{{header}{created}\"watch_id\":\"1\",\"created\":true}}}}");
    assert_eq!(results().await, expected);
    post(&port, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
    let event = concat!(
        r#""events":[{"kv":{"key":"Zm9v","create_revision":"2","mod_revision":"2","#,
        r#""version":"1","value":"YmFy"}}]}}"#,
    );
    let revision = r#""revision":"2","raft_term":"2"},"#;
    let expected = format!("{{\"result\":{{{header}{revision}{event}");
    assert_eq!(results().await, expected);
}

#[tokio::test]
async fn a_watch_in_json_that_requires_a_leader_ends_without_one() {
    let port = Port::start().await;
    let mut socket = port.connect().await;
    let request = concat!(
        "POST /v3/watch HTTP/1.1\r\nhost: x\r\nconnection: close\r\n",
        "grpc-metadata-hasleader: true\r\ncontent-length: 33\r\n\r\n",
        r#"{"create_request":{"key":"Zm9v"}}"#,
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    let mut found = Vec::new();
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        if line.contains(r#""created":true"#) {
            port.fake.set(|state| state.leaderless = true);
        }
        found.push(line);
    }
    let error = found.iter().find(|line| line.starts_with(r#"{"error":"#));
    let expected = concat!(
        r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","#,
        r#""http_status":"Service Unavailable","code":14,"details":[]}}"#,
    );
    assert_eq!(error.map(String::as_str), Some(expected), "{found:?}");
}
