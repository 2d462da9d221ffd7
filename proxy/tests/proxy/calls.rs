//! gRPC through the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use keelson_proxy::{MembersFrom, Mode, ProxyConfig};
use tokio::net::TcpStream;
use tokio::time;

use crate::support::{Callee, Fate, Running, config, until};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What a client receives.
#[derive(Debug)]
struct Heard {
    body: String,
    status: String,
    message: String,
}

struct Caller(h2::client::SendRequest<Bytes>);

impl Caller {
    async fn connect(proxy: SocketAddr) -> Caller {
        let socket = TcpStream::connect(proxy).await.unwrap();
        let (sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Caller(sender)
    }

    async fn begin(&mut self, path: &str) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("token", "secret")
            .body(())
            .unwrap();
        self.0
            .clone()
            .ready()
            .await
            .unwrap()
            .send_request(request, false)
            .unwrap()
    }

    /// A call whose client waits no longer than that.
    async fn call_in(&mut self, timeout: &str, path: &str) -> Heard {
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout)
            .body(())
            .unwrap();
        let mut sender = self.0.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        heard(response).await
    }

    async fn call(&mut self, path: &str, message: &'static str) -> Heard {
        let (response, mut stream) = self.begin(path).await;
        stream.send_data(Bytes::from(message), true).unwrap();
        heard(response).await
    }
}

async fn heard(response: h2::client::ResponseFuture) -> Heard {
    let response = time::timeout(Duration::from_secs(20), response)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (parts, mut body) = response.into_parts();
    let mut text = vec![];
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let field = |name: &str| {
        let of = |headers: &HeaderMap| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        of(&trailers)
            .or_else(|| of(&parts.headers))
            .unwrap_or_default()
    };
    Heard {
        body: String::from_utf8(text).unwrap(),
        status: field("grpc-status"),
        message: field("grpc-message"),
    }
}

fn before(callees: &[&Callee]) -> ProxyConfig {
    let urls = callees
        .iter()
        .map(|one| format!("http://{}", one.address))
        .collect();
    let mut config = config(&[]);
    config.members = MembersFrom::Clients(urls);
    config
}

async fn run(callees: &[&Callee]) -> (Running, Caller) {
    let running = Running::start(before(callees))
        .await
        .knows(callees.len())
        .await;
    let caller = Caller::connect(running.address).await;
    (running, caller)
}

#[tokio::test]
async fn calls_pass_with_their_trailers() {
    let member = Callee::start(Fate::Reply("kvs")).await;
    let (_proxy, mut caller) = run(&[&member]).await;
    let heard = caller.call(RANGE, "key").await;
    assert_eq!((heard.body.as_str(), heard.status.as_str()), ("kvs", "0"));
    let called = &member.seen()[0];
    assert_eq!(called.path, RANGE);
    assert_eq!(called.headers["token"], "secret");
    assert_eq!(called.headers["te"], "trailers");
    assert_eq!(called.headers["x-forwarded-for"], "127.0.0.1");
}

/// The member's span has the client's as its parent, though the proxy has none.
#[tokio::test]
async fn the_trace_of_a_call_passes_unchanged() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let member = Callee::start(Fate::Reply("kvs")).await;
    let (proxy, mut caller) = run(&[&member]).await;
    for path in [RANGE, PUT, WATCH] {
        let request = Request::post(format!("http://{}{path}", proxy.address))
            .header("content-type", "application/grpc")
            .header("traceparent", PARENT)
            .header("tracestate", "a=b")
            .body(())
            .unwrap();
        let mut sender = caller.0.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(heard(response).await.status, "0", "{path}");
    }
    // A client without a trace begins none here.
    caller.call(RANGE, "key").await;
    let seen = member.seen();
    let (untraced, traced) = seen.split_last().unwrap();
    assert_eq!(traced.len(), 3);
    for called in traced {
        assert_eq!(called.headers["traceparent"], PARENT, "{}", called.path);
        assert_eq!(called.headers["tracestate"], "a=b", "{}", called.path);
    }
    assert!(!untraced.headers.contains_key("traceparent"));
}

/// Clients list the members to see what they have just changed.
#[tokio::test]
async fn what_changes_something_and_the_list_of_members_go_to_the_leader() {
    const LIST: &str = "/etcdserverpb.Cluster/MemberList";
    let leader = Callee::start(Fate::Reply("leader")).await;
    let follower = Callee::start(Fate::Reply("follower")).await;
    leader.lead();
    // Which of them is preferred is chance.
    let mut attempts = 0..50;
    let (proxy, mut caller) = loop {
        attempts.next().expect("fifty proxies prefer the leader");
        let (proxy, mut caller) = run(&[&leader, &follower]).await;
        proxy.follows(&format!("http://{}", leader.address)).await;
        if caller.call(RANGE, "key").await.body == "follower" {
            break (proxy, caller);
        }
        drop(caller);
        proxy.stop().await;
    };
    for path in [PUT, LIST, "/etcdserverpb.Cluster/MemberAdd"] {
        assert_eq!(caller.call(path, "").await.body, "leader", "{path}");
    }
    drop((leader, follower, proxy));
}

#[tokio::test]
async fn streams_pass_both_ways_as_they_come() {
    let member = Callee::start(Fate::Echo).await;
    let (_proxy, mut caller) = run(&[&member]).await;
    let (response, mut stream) = caller.begin(WATCH).await;
    let mut body = response.await.unwrap().into_body();
    for _ in 0..3 {
        stream.send_data(Bytes::from("create"), false).unwrap();
        let data = time::timeout(Duration::from_secs(5), body.data())
            .await
            .unwrap();
        assert_eq!(data.unwrap().unwrap(), "create");
    }
    // More than any window holds.
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    stream.send_data(large.clone(), true).unwrap();
    let mut received = 0;
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
        received += length;
    }
    assert_eq!(received, large.len());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn what_was_refused_moves_on_even_a_write() {
    let one = Callee::start(Fate::Refuse).await;
    let two = Callee::start(Fate::Reply("done")).await;
    let (_proxy, mut caller) = run(&[&one, &two]).await;
    for path in [PUT, RANGE, PUT] {
        assert_eq!(caller.call(path, "x").await.body, "done", "{path}");
    }
}

#[tokio::test]
async fn a_member_that_is_gone_is_passed_over() {
    let one = Callee::start(Fate::Reply("done")).await;
    let two = Callee::start(Fate::Reply("done")).await;
    let (_proxy, mut caller) = run(&[&one, &two]).await;
    caller.call(PUT, "x").await;
    let (used, other) = match one.seen().is_empty() {
        true => (two, one),
        false => (one, two),
    };
    used.kill().await;
    time::sleep(Duration::from_millis(50)).await;
    assert_eq!(caller.call(PUT, "x").await.body, "done");
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test]
async fn a_read_that_breaks_off_moves_on_and_a_write_does_not() {
    let one = Callee::start(Fate::Die).await;
    let two = Callee::start(Fate::Reply("done")).await;
    let (_proxy, mut caller) = run(&[&one, &two]).await;
    assert_eq!(caller.call(RANGE, "x").await.body, "done");
    let one = Callee::start(Fate::Die).await;
    let two = Callee::start(Fate::Die).await;
    let (_proxy, mut caller) = run(&[&one, &two]).await;
    let heard = caller.call(PUT, "x").await;
    assert_eq!(heard.status, "14");
    let etcds = "etcdserver: request timed out, possibly due to connection lost";
    assert_eq!(heard.message, etcds);
    assert_eq!(one.seen().len() + two.seen().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_reset_says_nothing_of_its_member() {
    let one = Callee::start(Fate::Reset).await;
    let two = Callee::start(Fate::Reset).await;
    let (proxy, mut caller) = run(&[&one, &two]).await;
    for (count, path) in [(1, RANGE), (2, PUT), (3, RANGE)] {
        assert_eq!(caller.call(path, "x").await.status, "14");
        assert_eq!(one.seen().len() + two.seen().len(), count);
    }
    let told = crate::support::get(proxy.address, "/v2/config/local/proxy").await;
    assert_eq!(told.body.matches("http://").count(), 2, "{}", told.body);
}

#[tokio::test]
async fn a_stream_whose_member_dies_ends_as_unavailable() {
    let member = Callee::start(Fate::Echo).await;
    let (_proxy, mut caller) = run(&[&member]).await;
    let (response, mut stream) = caller.begin(WATCH).await;
    stream.send_data(Bytes::from("create"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "create");
    member.kill().await;
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "14");
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_given_up() {
    let member = Callee::start(Fate::Hang).await;
    let (_proxy, mut caller) = run(&[&member]).await;
    let (response, stream) = caller.begin(WATCH).await;
    until("it has come", async || !member.seen().is_empty()).await;
    drop((response, stream));
    until("it is given up", async || member.given_up() == 1).await;
}

#[tokio::test]
async fn while_all_are_away_calls_are_held() {
    let one = Callee::start(Fate::Reply("done")).await;
    let mut config = before(&[&one]);
    config.request_timeout = Duration::from_secs(60);
    let proxy = Running::start(config).await.knows(1).await;
    let mut caller = Caller::connect(proxy.address).await;
    assert_eq!(caller.call(PUT, "x").await.body, "done");
    let address = one.kill().await;
    let held = tokio::spawn(async move { caller.call(PUT, "x").await.body });
    proxy.has_got("POST", 2).await;
    assert!(!held.is_finished());
    let _one = Callee::start_at(address, Fate::Reply("back")).await;
    assert_eq!(held.await.unwrap(), "back");
    proxy.stop().await;
}

#[tokio::test]
async fn a_call_is_not_held_longer_than_it_may_be() {
    let one = Callee::start(Fate::Reply("done")).await;
    let (proxy, mut caller) = run(&[&one]).await;
    assert_eq!(caller.call(PUT, "x").await.body, "done");
    one.kill().await;
    let heard = caller.call(PUT, "x").await;
    assert_eq!(heard.status, "14");
    assert_eq!(heard.message, "there is no connection available");
    proxy.stop().await;
}

/// The member receives nothing of one, and a reset of the other.
#[tokio::test]
async fn a_call_whose_time_is_over_does_not_keep_its_member_busy() {
    let member = Callee::start(Fate::Hang).await;
    let (_proxy, mut caller) = run(&[&member]).await;
    let over = caller.call_in("1n", PUT).await;
    assert_eq!(member.seen().len(), 0);
    let late = caller.call_in("300m", PUT).await;
    for heard in [over, late] {
        assert_eq!(heard.status, "4");
        assert_eq!(heard.message, "context deadline exceeded");
    }
    assert!(member.seen().len() <= 1);
    until("they are given up", async || {
        member.given_up() == member.seen().len()
    })
    .await;
}

#[tokio::test]
async fn a_readonly_proxy_lets_reads_pass() {
    let member = Callee::start(Fate::Reply("kvs")).await;
    let mut config = before(&[&member]);
    config.mode = Mode::ReadOnly;
    let proxy = Running::start(config).await.knows(1).await;
    let mut caller = Caller::connect(proxy.address).await;
    assert_eq!(caller.call(RANGE, "x").await.body, "kvs");
    for path in [
        PUT,
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.Lease/LeaseGrant",
        "/x.Y/Z",
    ] {
        assert_eq!(caller.call(path, "x").await.status, "7", "{path}");
    }
    assert_eq!(member.seen().len(), 1);
}

/// The mark of this proxy on a call that it has not seen: it cannot be guessed, so it is taken from
/// what a member receives.
#[tokio::test]
async fn a_loop_is_told() {
    let member = Callee::start(Fate::Reply("kvs")).await;
    let (proxy, mut caller) = run(&[&member]).await;
    caller.call(RANGE, "x").await;
    let mark = member.seen()[0].headers["keelson-proxied-by"].clone();
    let request = Request::post(format!("http://{}{RANGE}", proxy.address))
        .header("content-type", "application/grpc")
        .header("keelson-proxied-by", mark)
        .body(())
        .unwrap();
    let (response, _) = caller.0.send_request(request, true).unwrap();
    assert_eq!(heard(response).await.status, "9");
    assert_eq!(member.seen().len(), 1);
}

#[tokio::test]
async fn what_is_no_call_goes_over_http_1() {
    let member = crate::support::Fake::start(|_| crate::support::answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    let mut caller = Caller::connect(proxy.address).await;
    let uri = format!("http://{}/v2/keys/a", proxy.address);
    let request = Request::get(uri).body(()).unwrap();
    let (response, _) = caller.0.send_request(request, true).unwrap();
    assert_eq!(heard(response).await.body, "x");
    let host = format!("host: {}", proxy.address);
    assert!(member.seen()[0].has(&host), "{}", member.seen()[0].head);
}
