//! The HTTP paths, over HTTP/1.1 and over HTTP/2 with prior knowledge.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_proto::etcdserverpb::{AlarmMember, AlarmType};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{ClusterVersion, Downgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Port, http, raw, within};
use crate::{Limits, More};

#[track_caller]
fn check(answer: (String, String), status: &str, body: &str) {
    assert_eq!(
        answer.0.lines().next().unwrap(),
        format!("HTTP/1.1 {status}")
    );
    assert_eq!(answer.1, body);
}

fn raise(port: &Port, alarm: AlarmType) {
    let raised = AlarmMember {
        member_id: 1,
        alarm: alarm as i32,
    };
    port.fake.set(|state| state.alarms.push(raised));
}

#[tokio::test]
async fn health_is_alarms_then_leader_then_reading() {
    let port = Port::start().await;
    let health = async |query: &str| http(&port, "GET", &format!("/health{query}")).await;
    check(
        health("").await,
        "200 OK",
        r#"{"health":"true","reason":""}"#,
    );
    port.fake.set(|state| state.leaderless = true);
    let unavailable = "503 Service Unavailable";
    let no_leader = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    check(health("").await, unavailable, no_leader);
    let fine = r#"{"health":"true","reason":""}"#;
    check(health("?serializable=true").await, "200 OK", fine);
    raise(&port, AlarmType::Nospace);
    let alarm = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    check(health("?serializable=true").await, unavailable, alarm);
    let excluded = "?serializable=true&exclude=CORRUPT&exclude=NOSPACE";
    check(health(excluded).await, "200 OK", fine);
}

#[tokio::test]
async fn only_get_is_allowed_for_health() {
    let port = Port::start().await;
    for path in ["/health", "/version", "/livez", "/readyz/non_learner"] {
        let (head, body) = http(&port, "POST", path).await;
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(head.contains("\r\nAllow: GET\r\n"), "{head}");
        assert_eq!(body, "Method Not Allowed\n");
    }
}

#[tokio::test]
async fn livez_and_readyz_report_each_check() {
    let port = Port::start().await;
    let get = async |path: &str| http(&port, "GET", path).await;
    check(get("/livez").await, "200 OK", "ok\n");
    check(
        get("/readyz?verbose").await,
        "200 OK",
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
         [+]non_learner ok\nok\n",
    );
    port.fake.set(|state| state.leaderless = true);
    raise(&port, AlarmType::Corrupt);
    check(get("/livez").await, "200 OK", "ok\n");
    check(
        get("/readyz").await,
        "503 Service Unavailable",
        "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
         [-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n",
    );
    let without = "/readyz?exclude=linearizable_read&exclude=data_corruption";
    check(get(without).await, "200 OK", "ok\n");
    check(get("/readyz/non_learner").await, "200 OK", "ok\n");
    let unknown = get("/livez/non_learner").await;
    check(unknown, "404 Not Found", "404 page not found\n");
}

#[tokio::test]
async fn a_member_that_differs_is_not_ready() {
    let port = Port::start().await;
    port.fake.fence();
    let (head, body) = http(&port, "GET", "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let why = "[-]data_corruption failed: the state of this member differs from the majority's\n";
    assert!(body.starts_with(why), "{body}");
}

#[tokio::test]
async fn versions_and_unknown_paths() {
    let port = Port::start().await;
    let versions = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"unknown"}"#;
    check(http(&port, "GET", "/version").await, "200 OK", versions);
    let (head, body) = http(&port, "GET", "/no/such/path").await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(
        head.contains("\r\nX-Content-Type-Options: nosniff\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"),
        "{head}"
    );
    assert_eq!(body, "404 page not found\n");
    let (head, _) = http(&port, "OPTIONS", "/v3/kv/range").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn http2_without_grpc_is_http() {
    let port = Port::start().await;
    let io = TokioIo::new(port.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut send, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("{}/version", port.url()))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = within(send.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"etcdserver\""));
    drop(send);
    within(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_peer_port_lists_members_as_etcds_does() {
    let port = Port::peer().await;
    let (head, body) = http(&port, "GET", "/members").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(
        head.contains("\r\nContent-Type: application/json\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nX-Etcd-Cluster-Id: beef\r\n"), "{head}");
    assert!(!head.contains("Access-Control"), "{head}");
    let expected = format!(
        "[{{\"id\":51966,\"peerURLs\":[\"http://127.0.0.1:2380\"],\"name\":\"m1\",\
         \"clientURLs\":[\"{}\"]}}]\n",
        port.url()
    );
    assert_eq!(body, expected);
    let (head, _) = http(&port, "GET", "/version").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    let unknown = http(&port, "GET", "/health").await;
    check(unknown, "404 Not Found", "404 page not found\n");
}

#[tokio::test]
async fn the_peer_port_states_whether_a_downgrade_is_in_progress() {
    let port = Port::peer().await;
    let path = "/downgrade/enabled";
    let (head, body) = http(&port, "GET", path).await;
    assert!(head.contains("\r\nContent-Type: text/plain\r\n"), "{head}");
    assert!(head.contains("\r\nX-Etcd-Cluster-Id: beef\r\n"), "{head}");
    assert_eq!(body, "false");
    let version = Op::ClusterVersion(ClusterVersion {
        version: "3.5.0".to_owned(),
    });
    let downgrade = Op::Downgrade(Downgrade {
        target: "3.4.0".to_owned(),
    });
    for op in [version, downgrade] {
        port.fake.apply(op).unwrap().unwrap();
    }
    check(http(&port, "GET", path).await, "200 OK", "true");
    let (head, _) = http(&port, "POST", path).await;
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    port.fake.set(|state| state.leaderless = true);
    let failed = "failed linearized read: etcdserver: request timed out\n";
    let answer = http(&port, "GET", path).await;
    check(answer, "500 Internal Server Error", failed);
}

/// etcd's members query it for their checks of corruption.
#[tokio::test]
async fn the_peer_port_hashes_pairs_as_etcds_does() {
    let port = Port::peer().await;
    let ask = async |headers: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "GET /members/hashkv HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        );
        let answer = raw(&port, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    };
    let (head, body) = ask("", "{\"revision\":0}").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nX-Etcd-Cluster-Id: beef\r\n"), "{head}");
    let expected = "{\"header\":{\"cluster_id\":48879,\"member_id\":51966,\"revision\":";
    assert!(body.starts_with(expected), "{body}");
    assert!(body.contains(",\"hash\":"), "{body}");
    assert!(
        body.contains(",\"compact_revision\":-1,\"hash_revision\":1}"),
        "{body}"
    );
    let future = ask("", "{\"revision\":99}").await;
    let text = "mvcc: required revision is a future revision\n";
    check(future, "400 Bad Request", text);
    let other = ask("X-Etcd-Cluster-ID: 1\r\n", "{}").await;
    check(other, "412 Precondition Failed", "cluster ID mismatch\n");
    let no_json = ask("", "").await;
    check(no_json, "400 Bad Request", "error unmarshalling request\n");
    let long = ask("", &" ".repeat(2_000)).await;
    check(long, "400 Bad Request", "error reading body\n");
}

/// A leader without a quorum was reported healthy for seven more seconds.
#[tokio::test]
async fn a_probe_does_not_wait_for_a_leader_that_is_silent() {
    let port = Port::start().await;
    port.fake.set(|state| state.silent = true);
    let (head, body) = http(&port, "GET", "/health").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let reason = "RANGE ERROR:etcdserver: request timed out";
    assert_eq!(
        body,
        format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n")
    );
    let (head, body) = http(&port, "GET", "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(body.contains("[-]linearizable_read failed: "), "{body}");
}

#[tokio::test]
async fn before_the_member_is_ready_probes_are_answered_and_others_wait() {
    let gate = crate::Gate::default();
    let opens = gate.clone();
    let port = Port::serving(move |fake, listeners, shutdown| async move {
        let more = |_: &_| crate::More::<()> {
            gate: Some(gate),
            ..Default::default()
        };
        let limits = crate::Limits::default();
        crate::serve_clients(fake, listeners, limits, more, shutdown).await
    })
    .await;
    port.fake.set(|state| state.leaderless = true);
    let (_, health) = http(&port, "GET", "/health").await;
    assert!(health.contains("RAFT NO LEADER"), "{health}");
    let held = http(&port, "GET", "/v3/nothing");
    // A proxy would count a member that answers it among those that serve reads.
    let version = http(&port, "GET", "/version");
    let both_wait = async {
        while opens.held() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::pin!(held, version);
    tokio::select! {
        biased;
        answer = &mut held => panic!("{answer:?}"),
        answer = &mut version => panic!("{answer:?}"),
        () = within(both_wait) => {}
    }
    let (ready, _) = http(&port, "GET", "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    opens.open();
    assert!(within(held).await.0.starts_with("HTTP/1.1 404 "));
    let (_, version) = within(version).await;
    assert!(version.contains("etcdserver"), "{version}");
}

/// etcd's expvar.
#[tokio::test]
async fn debug_vars_are_etcds() {
    let port = Port::start().await;
    let (head, body) = http(&port, "GET", "/debug/vars").await;
    assert!(head.contains("\r\nContent-Type: application/json; charset=utf-8\r\n"));
    assert!(
        body.starts_with("{\n\"cmdline\": [\"keelson\",\"--name\",\"a\\\"b\"],\n"),
        "{body}"
    );
    let vars: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(vars["file_descriptor_limit"].as_u64().unwrap() >= 64);
    assert!(vars["memstats"]["Sys"].as_u64().unwrap() > 1 << 20);
    let raft = &vars["raft.status"];
    assert_eq!(raft["raftState"], "StateLeader");
    assert_eq!((&raft["id"], &raft["commit"]), (&"cafe".into(), &11.into()));
}

/// A route of an embedder waited for ever. The clock stops once the route waits.
#[tokio::test]
async fn an_embedders_route_waits_a_minute_for_a_body() {
    let begun = Arc::new(Notify::new());
    let waits = Arc::clone(&begun);
    let route = async move |request: axum::extract::Request| {
        waits.notify_one();
        let body = request.into_body().collect().await;
        body.map_or_else(|error| error.to_string(), |_| "whole".to_owned())
    };
    let port = Port::serving(move |fake, listeners, shutdown| async move {
        let more = |_: &_| More::<()> {
            router: Router::new().route("/own", any(route)),
            ..More::default()
        };
        crate::serve_clients(fake, listeners, Limits::default(), more, shutdown).await
    })
    .await;
    let mut socket = port.connect().await;
    let begin = b"PUT /own HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx";
    socket.write_all(begin).await.unwrap();
    within(begun.notified()).await;
    tokio::time::pause();
    let began = Instant::now();
    let mut answer = Vec::new();
    let read = async { while socket.read_buf(&mut answer).await.unwrap() != 0 {} };
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, read).await.expect("an answer");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("did not come in time"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(90));
}
