//! Requests that are malformed, do not end, exceed a bound, or are late.

use keelson_port::Access;

use super::*;
use crate::h2::other::HttpRequest;
use crate::h2::owner::{ClientSession, Owner};

#[tokio::test(start_paused = true)]
async fn requests_that_are_malformed_are_reset_and_the_others_are_not() {
    let mut sent = settings();
    let malformed = [
        ("Token", "x"),
        ("to ken", "x"),
        ("token", "x\r\nhost: y"),
        ("token", "\0"),
        (":path", "/again"),
        (":status", "200"),
    ];
    for (place, field) in malformed.iter().enumerate() {
        let stream = 2 * place as u32 + 1;
        frame::put_headers(&mut sent, stream, [&call("/a.B/C", &[*field]), &[]], true);
    }
    frame::put_headers(&mut sent, 101, [&call("no path", &[]), &[]], true);
    frame::put_headers(
        &mut sent,
        103,
        [&call("/a.B/C", &[("token", "x")]), &[]],
        true,
    );
    let expected = [1, 3, 5, 7, 9, 11, 101].map(|stream| format!("reset {stream} 1"));
    let ends = ends(&sent).await;
    assert_eq!(ends[..7], expected);
    assert_eq!(ends[7..], ["fields 103 true"]);
}

/// RFC 9113, 8.1.
#[tokio::test(start_paused = true)]
async fn a_pseudo_field_in_trailers_is_malformed() {
    let mut sent = settings();
    for (stream, name) in [(1, ":path"), (3, ":status"), (5, ":method"), (7, "x")] {
        frame::put_headers(&mut sent, stream, [&call("/a.B/C", &[]), &[]], false);
        let mut trailers = BytesMut::new();
        hpack::put_field(&mut trailers, name.as_bytes(), b"y", false);
        frame::put_headers(&mut sent, stream, [&trailers, &[]], true);
    }
    let received = received_from_in(waiting_proxy(), Duration::from_millis(50), &sent).await;
    let resets = ["reset 1 1", "reset 3 1", "reset 5 1"];
    assert_eq!(ends_of(&received), resets);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_members_is_refused_whether_or_not_it_has_come_whole() {
    for whole in [true, false] {
        let mut sent = settings();
        frame::put_headers(&mut sent, 1, [&call("/a.B/C", &[]), &[]], whole);
        let ends = ends(&sent).await;
        assert_eq!(ends[0], "fields 1 true");
        assert_eq!(ends.len(), if whole { 1 } else { 2 }, "{ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_not_waited_for_for_ever() {
    let mut sent = settings();
    let mut put = BytesMut::new();
    for (name, value) in [
        (":method", "PUT"),
        (":scheme", "http"),
        (":path", "/v2/keys/a"),
    ] {
        hpack::put_field(&mut put, name.as_bytes(), value.as_bytes(), false);
    }
    frame::put_headers(&mut sent, 1, [&put, &[]], false);
    frame::put_data(&mut sent, 1, b"value=", false);
    let soon = received_in(Duration::from_secs(59), &sent).await;
    assert_eq!(ends_of(&soon), [""; 0]);
    let late = received_in(Duration::from_secs(61), &sent).await;
    assert_eq!(ends_of(&late), ["fields 1 true", "reset 1 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_one_message_has_to_come_whole() {
    let mut sent = settings();
    frame::put_headers(
        &mut sent,
        1,
        [&call("/etcdserverpb.KV/Put", &[]), &[]],
        false,
    );
    frame::put_data(&mut sent, 1, b"\0", false);
    let soon = received_from_in(waiting_proxy(), Duration::from_secs(59), &sent).await;
    assert_eq!(ends_of(&soon), [""; 0]);
    let late = received_from_in(waiting_proxy(), Duration::from_secs(61), &sent).await;
    assert_eq!(ends_of(&late), ["fields 1 true", "reset 1 0"]);
    assert!(has(&late, "the rest of the call did not come in time"));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_client_waits_no_longer() {
    let cases = [
        ("5S", 5000),
        ("250m", 250),
        ("1M", 60_000),
        ("90000000n", 90),
    ];
    for (value, ms) in cases {
        let mut sent = settings();
        for (stream, path) in [
            (1, "/etcdserverpb.KV/Put"),
            (3, "/etcdserverpb.Watch/Watch"),
        ] {
            let fields = call(path, &[("grpc-timeout", value)]);
            frame::put_headers(&mut sent, stream, [&fields, &[]], stream == 1);
        }
        let soon = received_from_in(waiting_proxy(), Duration::from_millis(ms - 20), &sent).await;
        assert_eq!(ends_of(&soon), [""; 0], "{value}");
        let late = received_from_in(waiting_proxy(), Duration::from_millis(ms + 30), &sent).await;
        let mut ends = ends_of(&late);
        ends.sort();
        assert_eq!(
            ends,
            ["fields 1 true", "fields 3 true", "reset 3 0"],
            "{value}"
        );
        assert!(has(&late, "context deadline exceeded"));
    }
    // A malformed `grpc-timeout` is refused by the member.
    for value in ["5", "123456789S", "xS", "5s"] {
        let mut sent = settings();
        let fields = call("/etcdserverpb.KV/Put", &[("grpc-timeout", value)]);
        frame::put_headers(&mut sent, 1, [&fields, &[]], true);
        let received = received_from_in(waiting_proxy(), Duration::from_secs(100), &sent).await;
        assert_eq!(ends_of(&received), [""; 0], "{value}");
    }
}

/// The call is not started: no member is searched for.
#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_over_when_it_comes_ends_at_once() {
    let mut sent = settings();
    for (stream, path) in [
        (1, "/etcdserverpb.KV/Put"),
        (3, "/etcdserverpb.Watch/Watch"),
    ] {
        let fields = call(path, &[("grpc-timeout", "0n")]);
        frame::put_headers(&mut sent, stream, [&fields, &[]], stream == 1);
    }
    while_open(&waiting_proxy(), &sent, |received| {
        let ends = ends_of(received);
        assert_eq!(ends, ["fields 1 true", "fields 3 true", "reset 3 0"]);
        assert!(has(received, "context deadline exceeded"));
    })
    .await;
}

/// `--host-whitelist`. As in etcd, calls are exempt.
#[tokio::test(start_paused = true)]
async fn requests_that_are_no_calls_are_for_the_hosts_that_are_listed() {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::ZERO;
    config.limits.access = Access::new(vec![], vec!["good.example".to_owned()]);
    let proxy = Arc::new(Context::new(config, vec![]));
    for (name, host, taken) in [
        (":authority", "good.example:2379", true),
        (":authority", "evil.example:2379", false),
        ("host", "good.example", true),
        ("host", "evil.example", false),
    ] {
        let mut block = BytesMut::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/v2/keys/a"),
            (name, host),
        ] {
            hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
        }
        let mut sent = settings();
        frame::put_headers(&mut sent, 1, [&block, &[]], true);
        let received = received_from(Arc::clone(&proxy), &sent).await;
        assert_eq!(has(&received, "zero endpoints"), taken, "{name} {host}");
        let refusal = "e.g. etcd --host-whitelist \"evil.example\"";
        assert_eq!(has(&received, refusal), !taken, "{name} {host}");
    }
    let mut sent = settings();
    let fields = call("/etcdserverpb.KV/Range", &[]);
    frame::put_headers(&mut sent, 1, [&fields, &[]], true);
    let received = received_from(proxy, &sent).await;
    assert!(has(&received, "there is no connection available"));
}

#[tokio::test(start_paused = true)]
async fn streams_at_a_time_are_bounded_by_default() {
    let mut sent = settings();
    for n in 0..4097 {
        frame::put_headers(
            &mut sent,
            2 * n + 1,
            [&call("/etcdserverpb.KV/Put", &[]), &[]],
            false,
        );
    }
    while_open(&waiting_proxy(), &sent, |received| {
        assert_eq!(ends_of(received), ["reset 8193 7"]);
        // And the client got an answer.
        assert!(received.windows(6).any(|six| six == [0, 3, 0, 0, 16, 0]));
    })
    .await;
}

/// Of any number of requests other than calls, a client has a bounded number that run.
#[tokio::test(start_paused = true)]
async fn requests_that_are_no_calls_are_forwarded_so_many_at_a_time() {
    let proxy = waiting_proxy();
    let session = Arc::new(ClientSession::new([1000, 1000]));
    let before = session.quota.running.available_permits();
    let mut others = vec![];
    for n in 0..before as u32 + 10 {
        let request = http::Request::get("/v2/keys/a").body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let client = ([127, 0, 0, 1], 1).into();
        let other = HttpRequest::new(&proxy, &session, 2 * n + 1, client, (parts, 0)).unwrap();
        session.accept(2 * n + 1, Owner::Http(Arc::clone(&other)), true);
        other.data(&[], true);
        others.push(other);
    }
    let running = async |expected: usize| {
        let mut turns = 0..10_000;
        while session.quota.running.available_permits() != expected {
            turns.next().expect("they run, and end");
            tokio::task::yield_now().await;
        }
    };
    running(0).await;
    for other in &others {
        other.cancel();
    }
    running(before).await;
}
