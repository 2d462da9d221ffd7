//! Members that die, hang and come back.

use std::time::{Duration, Instant};

use crate::support::{Client, Fake, Running, Step, answer, config, get, put, until};

#[tokio::test]
async fn a_member_that_refuses_is_passed_over_for_any_method() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    let proxy = Running::before(&[&one, &two]).await;
    let first = get(proxy.address, "/v2/keys/a").await.body;
    let (preferred, other) = match first.as_str() {
        "one" => (one, two),
        _ => (two, one),
    };
    preferred.kill().await;
    let mut client = Client::connect(proxy.address).await;
    for method in ["PUT", "POST", "DELETE", "GET"] {
        let answer = client.ask(method, "/v2/keys/a", "value=1").await;
        assert_eq!(answer.status, 200, "{method}");
    }
    assert!(4 <= other.seen().len());
    proxy.stop().await;
}

#[tokio::test]
async fn a_read_that_breaks_off_moves_on() {
    let one = Fake::start(|_| vec![Step::Close]).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    let proxy = Running::before(&[&one, &two]).await;
    for path in ["/v2/keys/a", "/v2/members", "/v2/keys/a?wait=true"] {
        let answer = get(proxy.address, path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "two"),
            "{path}"
        );
    }
    let mut client = Client::connect(proxy.address).await;
    let range = client.ask("POST", "/v3/kv/range", "{}").await;
    assert_eq!(range.body, "two");
    proxy.stop().await;
}

#[tokio::test]
async fn a_write_that_breaks_off_is_never_sent_twice() {
    let one = Fake::start(|_| vec![Step::Close]).await;
    let two = Fake::start(|_| vec![Step::Close]).await;
    let proxy = Running::before(&[&one, &two]).await;
    let answer = put(proxy.address, "/v2/keys/a", "value=1").await;
    assert_eq!(answer.status, 500);
    let error: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(error["errorCode"], 300);
    assert_eq!(error["message"], "Raft Internal Error");
    assert!(error["cause"].as_str().unwrap().contains("unknown"));
    assert!(answer.body.ends_with('\n'));
    assert_eq!(one.seen().len() + two.seen().len(), 1);
    let answer = put(proxy.address, "/v2/members/1", "{}").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.starts_with("{\"message\":"), "{}", answer.body);
    assert_eq!(one.seen().len() + two.seen().len(), 2);
    proxy.stop().await;
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_loses_no_write() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let proxy = Running::before(&[&one]).await;
    for _ in 0..5 {
        put(proxy.address, "/v2/keys/a", "value=1").await;
    }
    let address = one.kill().await;
    let one = Fake::start_at(address, |_| answer("200 OK", "again")).await;
    let answer = put(proxy.address, "/v2/keys/a", "value=1").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "again"));
    assert_eq!(one.seen().len(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn while_all_are_away_requests_are_held_and_then_refused() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let mut config = config(&[&one]);
    config.request_timeout = Duration::from_secs(1);
    let proxy = Running::start(config).await;
    assert_eq!(put_at(proxy.address).await, "one");
    let address = one.kill().await;
    let began = Instant::now();
    let answer = put(proxy.address, "/v2/keys/a", "value=1").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "{\"message\":\"proxy: zero endpoints currently available\"}"
    );
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    assert!(Duration::from_secs(1) <= began.elapsed());
    // So are the next ones, and a member that comes back is found.
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(put_at(proxy.address).await, answer.body);
        assert!(Duration::from_secs(1) <= began.elapsed());
    }
    let _one = Fake::start_at(address, |_| self::answer("200 OK", "back")).await;
    let proxy = proxy.knows(1).await;
    assert_eq!(put_at(proxy.address).await, "back");
    proxy.stop().await;
}

#[tokio::test]
async fn a_request_is_held_until_a_member_that_was_there_is_back() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let mut config = config(&[&one]);
    config.request_timeout = Duration::from_secs(60);
    let proxy = Running::start(config).await;
    assert_eq!(put_at(proxy.address).await, "one");
    let address = one.kill().await;
    let held = tokio::spawn(put_at(proxy.address));
    let proxy = proxy.knows(0).await;
    assert!(!held.is_finished());
    let one = Fake::start_at(address, |_| answer("200 OK", "back")).await;
    assert_eq!(held.await.unwrap(), "back");
    assert_eq!(one.seen().len(), 1);
    proxy.stop().await;
}

async fn put_at(proxy: std::net::SocketAddr) -> String {
    put(proxy, "/v2/keys/a", "value=1").await.body
}

#[tokio::test]
async fn reads_leave_a_member_that_stopped() {
    let one = Fake::start(|_| answer("200 OK", "x")).await;
    let two = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&one, &two]).await;
    get(proxy.address, "/v2/keys/a").await;
    let (preferred, other) = match one.seen().is_empty() {
        true => (two, one),
        false => (one, two),
    };
    preferred.set_silent();
    let began = Instant::now();
    assert_eq!(get(proxy.address, "/v2/keys/a").await.status, 200);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    // The next one does not even try.
    assert_eq!(get(proxy.address, "/v2/keys/a").await.status, 200);
    assert_eq!(preferred.seen().len(), 1);
    assert_eq!(other.seen().len(), 2);
    proxy.stop().await;
}

#[tokio::test]
async fn a_write_waits_for_a_slow_member_and_then_says_so() {
    let slow = |_: &_| vec![Step::Sleep(Duration::from_secs(1))];
    let one = Fake::start(move |seen| [slow(seen), answer("200 OK", "slow")].concat()).await;
    let two = Fake::start(|_| vec![Step::Hang]).await;
    let proxy = Running::before(&[&one]).await;
    assert_eq!(
        put(proxy.address, "/v2/keys/a", "value=1").await.body,
        "slow"
    );
    proxy.stop().await;
    let proxy = Running::before(&[&two]).await;
    let began = Instant::now();
    let answer = put(proxy.address, "/v2/keys/a", "value=1").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("unknown"));
    assert!(Duration::from_secs(3) <= began.elapsed());
    assert_eq!(two.seen().len(), 1);
    proxy.stop().await;
}

/// Only a lock or a profile may take as long as it likes, and only of a member that is there.
#[tokio::test]
async fn no_write_waits_for_ever_for_a_member_that_is_gone() {
    for path in ["/v2/members", "/v3/kv/put"] {
        let one = Fake::start(|_| vec![Step::Hang]).await;
        let proxy = Running::before(&[&one]).await;
        let mut client = Client::connect(proxy.address).await;
        client.send("POST", path, "{}").await;
        until("it has come", async || !one.seen().is_empty()).await;
        one.set_silent();
        let answer = client.answer("POST").await;
        assert_eq!(answer.status, 500, "{path}");
        assert!(answer.body.contains("unknown"), "{}", answer.body);
        assert_eq!(one.seen().len(), 1);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_member_without_a_leader_is_the_last_choice() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    one.set_healthy(false);
    let proxy = Running::before(&[&one, &two]).await;
    proxy.puts_last(&one.url()).await;
    for _ in 0..5 {
        assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "two");
    }
    two.kill().await;
    assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "one");
    proxy.stop().await;
}

/// A member holds requests until it is ready, and `/version` with them; only its `/health` answers.
#[tokio::test]
async fn a_member_that_is_not_ready_is_out_and_no_read_waits_for_it() {
    let [one, two, three] = [(); 3].map(|()| Fake::start(|_| answer("200 OK", "x")));
    let (one, two, three) = tokio::join!(one, two, three);
    one.set_ready(false);
    let mut config = config(&[&one, &two, &three]);
    // No read may leave it for lack of patience.
    config.request_timeout = Duration::from_secs(600);
    let proxy = Running::start(config).await;
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/v2/keys/a").await.status, 200);
    }
    let proxy = proxy.knows(2).await;
    assert!(one.seen().is_empty());
    one.set_ready(true);
    proxy.knows(3).await.stop().await;
}

#[tokio::test]
async fn members_errors_are_passed_on_and_not_tried_elsewhere() {
    let one = Fake::start(|_| answer("500 Internal Server Error", "{}")).await;
    let two = Fake::start(|_| answer("500 Internal Server Error", "{}")).await;
    let proxy = Running::before(&[&one, &two]).await;
    assert_eq!(
        get(proxy.address, "/v2/keys/a?quorum=true").await.status,
        500
    );
    assert_eq!(one.seen().len() + two.seen().len(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_loop_is_told_and_then_avoided() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // A name that is not recognised as its own, for a relay to itself would not be either.
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let mut config = config(&[&one]);
    config.members = keelson_proxy::MembersFrom::Clients(vec![format!("http://{address}")]);
    let proxy = Running::start_on(listener, config);
    let refused = get(proxy.address, "/v2/keys/a").await;
    assert_eq!(refused.status, 503);
    proxy.stop().await;
}
