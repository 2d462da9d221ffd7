//! Limits of rate, over gRPC, the JSON gateway and the v2 API alike.

use keelson_port::Drain;
use keelson_port::metrics::Exposition;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use keelson_proto::health::HealthCheckRequest;
use keelson_proto::health::health_client::HealthClient;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};

use super::auth::{channel, enabled_at, with_token};
use super::*;
use crate::v2::V2;
use crate::{CallMetrics, More, RateLimit, RateLimits, Rates};

const TEXT: &str = "etcdserver: too many requests";

/// A port with all APIs, and its counts.
async fn port(limits: RateLimits) -> (Port, CallMetrics) {
    let calls = CallMetrics::default();
    let counts = calls.clone();
    let port = Port::serving(move |fake, listeners, shutdown| async move {
        let rates = Rates::new(limits, calls.clone());
        let backend = fake.clone();
        let more = |drain: &Drain| More {
            interceptor: V2::limited(backend, drain, calls.clone(), rates.clone()),
            routes: Routes::default(),
            router: Router::default(),
            gate: None,
            unread: Default::default(),
            calls,
            tracer: None,
            rates,
        };
        super::super::serve_clients(fake, listeners, Limits::default(), more, shutdown).await
    });
    (port.await, counts)
}

fn of_connections(burst: u32) -> RateLimits {
    RateLimits {
        connection: RateLimit::hourly(burst),
        user: None,
    }
}

fn of_users(burst: u32) -> RateLimits {
    RateLimits {
        connection: None,
        user: RateLimit::hourly(burst),
    }
}

/// The series of the limits with a value other than 0.
fn counted(calls: &CallMetrics) -> Vec<String> {
    let mut out = Exposition::default();
    calls.write(&mut out);
    let text = out.into_text();
    let series = text.lines().filter_map(|line| {
        let series = line.strip_prefix("keelson_rate_limited_requests_total")?;
        (!series.ends_with(" 0")).then(|| series.to_owned())
    });
    series.collect()
}

fn range() -> RangeRequest {
    RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    }
}

#[track_caller]
fn check<T: std::fmt::Debug>(refused: Result<T, Status>) {
    let status = refused.expect_err("over the limit");
    let (code, text) = (status.code(), status.message());
    assert_eq!((code, text), (Code::ResourceExhausted, TEXT));
}

fn json(path: &str, token: &str, last: &str) -> String {
    let body = "{\"key\":\"YQ==\"}";
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{last}\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// The answers on a connection, each from its status on.
async fn pipelined(port: &Port, requests: &[String]) -> Vec<String> {
    let text = raw(port, &requests.concat()).await;
    let answers = text.split("HTTP/1.1 ").skip(1);
    answers.map(str::to_owned).collect()
}

const LAST: &str = "Connection: close\r\n";

#[tokio::test]
async fn a_connections_limit_counts_both_versions_of_the_api_over_http() {
    let (port, calls) = port(of_connections(3)).await;
    let answers = pipelined(
        &port,
        &[
            get("/v2/keys", ""),
            get("/health", ""),
            json("/v3/kv/range", "", ""),
            get("/v2/members", ""),
            get("/v2/keys", ""),
            get("/v2/members", ""),
            json("/v3/kv/range", "", ""),
            get("/version", ""),
            get("/health", LAST),
        ],
    )
    .await;
    let status = |answer: &String| answer.split(' ').next().unwrap().to_owned();
    let statuses: Vec<_> = answers.iter().map(status).collect();
    let expected = [
        "200", "200", "200", "200", "429", "429", "429", "429", "200",
    ];
    assert_eq!(statuses, expected, "{answers:#?}");
    for (answer, body) in [
        (
            &answers[4],
            r#"{"errorCode":300,"message":"Raft Internal Error","cause":"#,
        ),
        (
            &answers[5],
            r#"{"message":"etcdserver: too many requests"}"#,
        ),
        (
            &answers[6],
            r#"{"error":"etcdserver: too many requests","message":"#,
        ),
        (&answers[7], TEXT),
    ] {
        assert!(answer.contains("\r\nRetry-After: 3600\r\n"), "{answer}");
        assert!(answer.contains(body), "{answer}");
    }
    let refused = ["{by=\"connection\",outcome=\"refused\"} 4"];
    assert_eq!(counted(&calls), refused);
}

#[tokio::test]
async fn a_connections_limit_counts_calls_and_not_those_of_others() {
    let (port, calls) = port(of_connections(2)).await;
    let flood = channel(&port).await;
    let mut kv = KvClient::new(flood.clone());
    for _ in 0..2 {
        kv.range(range()).await.expect("within the limit");
    }
    check(kv.range(range()).await);
    let mut health = HealthClient::new(flood);
    let probed = health.check(HealthCheckRequest::default()).await;
    probed.expect("health is not limited");
    port.kv().await.range(range()).await.expect("another one");
    let refused = ["{by=\"connection\",outcome=\"refused\"} 1"];
    assert_eq!(counted(&calls), refused);
}

#[tokio::test]
async fn a_users_limit_counts_all_its_connections_and_the_gateway() {
    let (port, calls) = port(of_users(3)).await;
    let (port, _auth, alice, root) = enabled_at(port).await;
    let call = async |token: &str| {
        let mut kv = port.kv().await;
        kv.range(with_token(token, range())).await
    };
    // None of these is alice.
    for token in ["alice", "x", ""] {
        for _ in 0..4 {
            let refused = call(token).await.unwrap_err();
            assert_ne!(refused.message(), TEXT);
        }
    }
    for _ in 0..2 {
        call(&alice).await.expect("within the limit");
    }
    let read = async |token: &str| raw(&port, &json("/v3/kv/range", token, LAST)).await;
    assert!(read(&alice).await.starts_with("HTTP/1.1 200 "));
    let refused = read(&alice).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("\r\nRetry-After: 3600\r\n"), "{refused}");
    check(call(&alice).await);
    call(&root).await.expect("another one");
    let refused = ["{by=\"user\",outcome=\"refused\"} 2"];
    assert_eq!(counted(&calls), refused);
}

#[tokio::test]
async fn a_users_limit_counts_requests_with_its_password_alone() {
    let (port, _) = port(of_users(2)).await;
    let put = |path: &str, body: &str| {
        let length = body.len();
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{LAST}\r\n{body}")
    };
    let root = put("/v2/auth/users/root", r#"{"user":"root","password":"pw"}"#);
    assert!(raw(&port, &root).await.starts_with("HTTP/1.1 201 "));
    let enabled = raw(&port, &put("/v2/auth/enable", "")).await;
    assert!(enabled.starts_with("HTTP/1.1 200 "), "{enabled}");
    let read = async |path: &str, password: &str| {
        let fields = format!("Authorization: Basic {password}\r\n{LAST}");
        let answer = raw(&port, &get(path, &fields)).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let (right, wrong) = ("cm9vdDpwdw==", "cm9vdDpubw==");
    for _ in 0..4 {
        assert_eq!(read("/v2/keys/", wrong).await, "401");
        assert!(
            raw(&port, &get("/v2/keys/", LAST))
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }
    assert_eq!(read("/v2/keys/", right).await, "200");
    assert_eq!(read("/v2/auth/users", right).await, "200");
    assert_eq!(read("/v2/keys/", right).await, "429");
    assert_eq!(read("/v2/auth/users", right).await, "429");
    assert_eq!(read("/v2/keys/", wrong).await, "401");
}

fn create() -> WatchRequest {
    let create = WatchCreateRequest {
        key: "a".into(),
        ..WatchCreateRequest::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

/// Each watcher counts, and the call with its first one. What is over the limit for long ends the
/// stream with the code after which clients begin it again.
#[tokio::test]
async fn the_messages_of_streams_are_requests() {
    let (port, _) = port(of_connections(3)).await;
    let watches = tokio_stream::iter((0..4).map(|_| create())).chain(tokio_stream::pending());
    let mut watch = WatchClient::new(channel(&port).await);
    let mut answers = watch.watch(watches).await.unwrap().into_inner();
    let mut created = 0;
    let ended = loop {
        match within(answers.message()).await {
            Ok(answer) => created += usize::from(answer.expect("an end with a status").created),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, TEXT));
    assert!(created <= 3, "{created}");

    let renewals = (0..4).map(|_| LeaseKeepAliveRequest { id: 7 });
    let renewals = tokio_stream::iter(renewals).chain(tokio_stream::pending());
    let mut leases = LeaseClient::new(channel(&port).await);
    let answers = leases.lease_keep_alive(Request::new(renewals)).await;
    let mut answers = answers.unwrap().into_inner();
    let ended = loop {
        if let Err(status) = within(answers.message()).await {
            break status;
        }
    };
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, TEXT));
}
