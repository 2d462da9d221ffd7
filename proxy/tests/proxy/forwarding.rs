//! What passes through, and in which form.

use std::time::Duration;

use keelson_proxy::Mode;

use crate::support::{Client, Fake, Running, Step, answer, config, get, put, until};

#[tokio::test]
async fn requests_and_answers_pass_with_their_headers() {
    let member = Fake::start(|_| {
        let text = "HTTP/1.1 201 Created\r\nX-Etcd-Index: 9\r\nX-Raft-Term: 2\r\n\
            Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok";
        vec![Step::Send(text.to_owned())]
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    let request = "PUT /v2/keys/a%20b?prevExist=false HTTP/1.1\r\nHost: localhost:4001\r\n\
        Content-Type: application/x-www-form-urlencoded; param=value\r\n\
        Connection: x-mine\r\nX-Mine: 1\r\nTE: trailers\r\nX-Forwarded-For: 10.0.0.7\r\n\
        Content-Length: 7\r\n\r\nvalue=1";
    client.send_bytes(request.as_bytes()).await;
    let answer = client.answer("PUT").await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "ok"));
    assert_eq!(answer.field("X-Etcd-Index"), Some("9"));
    assert_eq!(answer.field("X-Raft-Term"), Some("2"));
    assert_eq!(answer.field("X-Hop"), None);
    assert_eq!(answer.field("Keep-Alive"), None);
    let seen = &member.seen()[0];
    assert_eq!(seen.line, "PUT /v2/keys/a%20b?prevExist=false HTTP/1.1");
    assert_eq!(seen.body, "value=1");
    assert!(seen.has("host: localhost:4001"));
    assert!(seen.has("x-forwarded-for: 10.0.0.7, 127.0.0.1"));
    assert!(seen.has("content-type: application/x-www-form-urlencoded; param=value"));
    for gone in ["x-mine", "te:", "connection", "keep-alive"] {
        assert!(
            !seen.head.to_lowercase().contains(gone),
            "{gone}: {}",
            seen.head
        );
    }
    proxy.stop().await;
}

/// etcd's gateway takes a call's trace from the second field.
#[tokio::test]
async fn the_trace_of_a_json_call_passes_unchanged() {
    let member = Fake::start(|_| answer("200 OK", "{}")).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for name in ["traceparent", "Grpc-Metadata-Traceparent"] {
        for path in ["/v3/kv/range", "/v3/kv/put", "/v3beta/watch"] {
            let body = r#"{"key":"Zm9v"}"#;
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 {name}: {trace}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            client.send_bytes(request.as_bytes()).await;
            assert_eq!(client.answer("POST").await.status, 200, "{name} {path}");
            let seen = member.seen();
            let head = seen.last().unwrap().head.to_lowercase();
            let field = format!("{name}: {trace}").to_lowercase();
            assert_eq!(head.matches(&field).count(), 1, "{head}");
            assert_eq!(head.matches("traceparent").count(), 1, "{head}");
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn connections_to_a_member_are_used_again() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    for _ in 0..20 {
        // Clients come and go; the connection behind them stays.
        assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "x");
    }
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..20 {
        assert_eq!(client.ask("PUT", "/v2/keys/a", "value=1").await.status, 200);
    }
    assert_eq!(member.seen().len(), 40);
    assert_eq!(member.connections(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn every_framing_arrives_whole() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let cases = [
        (
            "/length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde".to_owned(),
        ),
        ("/chunked", chunked.to_owned()),
        ("/close", "HTTP/1.1 200 OK\r\n\r\nabcde".to_owned()),
        (
            "/continue",
            format!("HTTP/1.1 100 Continue\r\n\r\n{chunked}"),
        ),
    ];
    for (path, text) in cases {
        for pieces in [1, 7, text.len()] {
            let sent: Vec<_> = text
                .as_bytes()
                .chunks(pieces)
                .flat_map(|part| {
                    let part = String::from_utf8(part.to_vec()).unwrap();
                    [Step::Send(part), Step::Sleep(Duration::from_millis(1))]
                })
                .chain(path.contains("close").then_some(Step::Close))
                .collect();
            let member = Fake::start(move |_| sent.clone()).await;
            let proxy = Running::before(&[&member]).await;
            let answer = get(proxy.address, path).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, "abcde"),
                "{path}"
            );
            proxy.stop().await;
        }
    }
}

#[tokio::test]
async fn head_and_bodiless_answers_do_not_wait_for_a_body() {
    let member = Fake::start(|seen| {
        let text = match seen.line.starts_with("HEAD") {
            true => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            false => "HTTP/1.1 204 No Content\r\n\r\n",
        };
        vec![Step::Send(text.to_owned())]
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    let head = client.ask("HEAD", "/v2/keys/a", "").await;
    assert_eq!(head.field("Content-Length"), Some("5"));
    client.send("PUT", "/v2/members/1", "{}").await;
    assert_eq!(client.head().await.status, 204);
    assert_eq!(client.ask("HEAD", "/v2/keys/a", "").await.status, 200);
    assert_eq!(member.connections(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let member = Fake::start(|seen| {
        let body = seen.body.clone();
        answer("200 OK", &body)
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let body = "x".repeat(3_000_000);
    assert_eq!(put(proxy.address, "/v2/keys/a", &body).await.body, body);
    let mut client = Client::connect(proxy.address).await;
    let request = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\n\r\n";
    client.send_bytes(request.as_bytes()).await;
    let answer = client.answer("PUT").await;
    assert_eq!(answer.body, "3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(
        client.ask("PUT", "/v2/keys/a", "value=1").await.body,
        "value=1"
    );
    proxy.stop().await;
}

#[tokio::test]
async fn heads_are_flushed_before_the_body() {
    let member = Fake::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        vec![
            Step::Send(head.to_owned()),
            Step::Sleep(Duration::from_secs(30)),
        ]
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET", "/slow", "").await;
    assert_eq!(client.head().await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let member = Fake::start(|_| vec![Step::Hang]).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET", "/v3/slow", "").await;
    until("it has come", async || {
        member.open() == 1 && member.seen().len() == 1
    })
    .await;
    drop(client);
    member.has_no_connection().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_passed_as_whole() {
    let member = Fake::start(|_| {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
        vec![Step::Send(text.to_owned()), Step::Close]
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET", "/v2/keys/a", "").await;
    // Parts may have arrived before; but no valid end of the body.
    while !client.is_cut().await {}
}

#[tokio::test]
async fn a_readonly_proxy_refuses_all_but_get() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let mut config = config(&[&member]);
    config.mode = Mode::ReadOnly;
    let proxy = Running::start(config).await.knows(1).await;
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.ask("GET", "/v2/keys/a", "").await.body, "x");
    for method in ["PUT", "POST", "DELETE", "HEAD", "PATCH"] {
        let answer = client.ask(method, "/v2/keys/a", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (501, ""), "{method}");
    }
    assert_eq!(member.seen().len(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn its_own_paths_are_its_own() {
    let member = Fake::start(|_| answer("404 Not Found", "x")).await;
    let proxy = Running::before(&[&member]).await;
    get(proxy.address, "/v2/keys/a").await;
    let config = get(proxy.address, "/v2/config/local/proxy").await;
    assert_eq!(
        config.body,
        format!("{{\"endpoints\":[\"{}\"]}}\n", member.url())
    );
    assert_eq!(
        config.field("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    let refused = put(proxy.address, "/v2/config/local/proxy", "x").await;
    assert_eq!(refused.status, 405);
    assert_eq!(refused.field("Allow"), Some("GET"));
    let metrics = get(proxy.address, "/metrics").await;
    let counted = "etcd_proxy_handled_total{code=\"404\",method=\"GET\"} 1\n";
    assert!(metrics.body.contains(counted), "{}", metrics.body);
    assert_eq!(member.seen().len(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let member = Fake::start(|_| {
        let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
        vec![Step::Send(head), Step::Hang]
    })
    .await;
    let mut config = config(&[&member]);
    config.limits.head_bytes_max = 16 * 1024;
    let proxy = Running::start(config).await.knows(1).await;
    let mut client = Client::connect(proxy.address).await;
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    client.send_bytes(head.as_bytes()).await;
    assert_eq!(client.head().await.status, 431);
    assert!(member.seen().is_empty());
    // A member's head has a bound too.
    assert_eq!(
        put(proxy.address, "/v2/keys/a", "value=1").await.status,
        500
    );
    proxy.stop().await;
}

/// Go's servers take these characters as they are; what is forwarded is right for all.
#[tokio::test]
async fn quotes_in_a_target_are_forwarded_as_they_ought_to_be() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    put(proxy.address, "/v2/keys/a?prevValue=\"<x>\"", "value=1").await;
    let line = "PUT /v2/keys/a?prevValue=%22%3Cx%3E%22 HTTP/1.1";
    assert_eq!(member.seen()[0].line, line);
    proxy.stop().await;
}

/// Both ways: what is plain, and what goes through hyper.
#[tokio::test]
async fn requests_without_a_sound_host_are_refused_as_by_members() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    for (fields, status) in [
        ("", 400),
        ("Host: a\r\nHost: a\r\n", 400),
        ("Host: a/b c\r\n", 400),
        ("Host: a\r\nExpect: junk\r\n", 417),
        ("Host: a\r\n", 200),
    ] {
        let mut client = Client::connect(proxy.address).await;
        let request = format!("GET /v2/keys/a HTTP/1.1\r\n{fields}\r\n");
        client.send_bytes(request.as_bytes()).await;
        assert_eq!(client.head().await.status, status, "{fields:?}");
    }
    assert_eq!(member.seen().len(), 1);
    proxy.stop().await;
}

/// 98 headers passed a proxy and were too many for its member.
#[tokio::test]
async fn a_head_that_passes_is_one_that_members_take() {
    let limits = keelson_port::Limits::default();
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    for (headers, bytes, status) in [
        (120, 1, 200),
        (limits.headers_max - 20, 1, 200),
        (limits.headers_max - 2, 1, 431),
        (limits.headers_max + 50, 1, 431),
        (10, limits.head_bytes_max / 10 - 400, 200),
        (10, limits.head_bytes_max / 10 - 20, 431),
    ] {
        let mut client = Client::connect(proxy.address).await;
        let fields: String = (0..headers)
            .map(|i| format!("X-{i}: {}\r\n", "y".repeat(bytes)))
            .collect();
        let request = format!("GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        client.send_bytes(request.as_bytes()).await;
        assert_eq!(client.head().await.status, status, "{headers} of {bytes}");
    }
    for seen in member.seen() {
        assert!(seen.head.lines().count() <= limits.headers_max);
        assert!(seen.head.len() <= limits.head_bytes_max);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_folded_header_passes_joined() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    let request = "GET /v2/keys/a HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n 2\r\n\r\n";
    client.send_bytes(request.as_bytes()).await;
    assert_eq!(client.head().await.status, 200);
    assert!(
        member.seen()[0]
            .head
            .to_lowercase()
            .contains("x-a: 1 2\r\n")
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_proxy_names_the_origins_that_it_lists() {
    let any = |_: &_| {
        let text = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n";
        vec![Step::Send(text.to_owned())]
    };
    let member = Fake::start(any).await;
    let ui = "https://ui.example:443";
    let mut config = config(&[&member]);
    config.limits.access = keelson_port::Access::new(vec![ui.to_owned()], vec![]);
    let proxy = Running::start(config).await;
    for (origin, allowed) in [(ui, Some(ui)), ("https://evil.example:443", None)] {
        let mut client = Client::connect(proxy.address).await;
        let request =
            format!("GET /v2/keys/a HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n");
        client.send_bytes(request.as_bytes()).await;
        let head = client.head().await;
        assert_eq!(head.field("Access-Control-Allow-Origin"), allowed);
    }
    proxy.stop().await;
}
