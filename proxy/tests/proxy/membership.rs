//! The member list.

use std::time::{Duration, Instant};

use keelson_proxy::{MembersFrom, ProxyConfig, SavePeerUrls};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Fake, Running, answer, config, get, put};

fn from_peers(urls: &[String]) -> ProxyConfig {
    let mut config = config(&[]);
    config.members = MembersFrom::Peers(urls.to_vec());
    config
}

#[tokio::test]
async fn members_are_learnt_from_the_first_peer_that_answers() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    one.advertise(vec![one.url(), two.url()]);
    let peers = ["http://127.0.0.1:1".to_owned(), one.url()];
    let mut proxy = Running::start(from_peers(&peers)).await.knows(2).await;
    proxy.ready.try_recv().unwrap();
    // A member goes, another comes.
    one.advertise(vec![two.url()]);
    let proxy = proxy.knows(1).await;
    assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "two");
    proxy.stop().await;
}

#[tokio::test]
async fn a_failed_refresh_forgets_nothing() {
    let peer = Fake::start(|_| answer("200 OK", "")).await;
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    peer.advertise(vec![member.url()]);
    let proxy = Running::start(from_peers(&[peer.url()]))
        .await
        .knows(1)
        .await;
    // It still answers, but without members.
    peer.advertise(vec![]);
    peer.was_asked_for_members(peer.asked() + 2).await;
    assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "x");
    peer.kill().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "x");
    proxy.stop().await;
}

#[tokio::test]
async fn requests_before_the_members_have_published_are_held() {
    let peer = Fake::start(|_| answer("200 OK", "x")).await;
    // It has started, and the cluster has no leader yet.
    peer.advertise(vec![]);
    let mut config = from_peers(&[peer.url()]);
    config.request_timeout = Duration::from_secs(60);
    let proxy = Running::start(config).await;
    peer.was_asked_for_members(1).await;
    let asking = tokio::spawn(get(proxy.address, "/v2/keys/a"));
    peer.was_asked_for_members(3).await;
    assert!(!asking.is_finished());
    peer.advertise(vec![peer.url()]);
    assert_eq!(asking.await.unwrap().body, "x");
    proxy.stop().await;
}

/// etcd's proxy does the same, and systemd's `READY=1` does not wait for a member either.
#[tokio::test]
async fn a_proxy_alone_is_ready_and_answers_503_at_once() {
    let parked = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = parked.local_addr().unwrap();
    drop(parked);
    let mut config = from_peers(&[format!("http://{address}")]);
    // Held requests would not end within this test.
    config.request_timeout = Duration::from_secs(3600);
    let mut proxy = Running::start(config).await;
    (&mut proxy.ready).await.unwrap();
    for path in ["/v2/keys/a", "/health", "/version", "/v2/keys/a?wait=true"] {
        let answer = get(proxy.address, path).await;
        assert_eq!(answer.status, 503, "{path}");
        let words = "{\"message\":\"proxy: zero endpoints currently available\"}";
        assert_eq!(answer.body, words, "{path}");
    }
    assert_eq!(
        put(proxy.address, "/v2/keys/a", "value=1").await.status,
        503
    );
    // A member that comes is found.
    let _member = Fake::start_at(address, |_| answer("200 OK", "x")).await;
    let proxy = proxy.knows(1).await;
    assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "x");
    proxy.stop().await;
}

/// The same where the members' client URLs are given, as `grpc-proxy start` has them.
#[tokio::test]
async fn a_proxy_of_members_that_were_never_reached_answers_503_at_once() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let mut config = config(&[&member]);
    config.request_timeout = Duration::from_secs(3600);
    member.kill().await;
    let proxy = Running::start(config).await;
    assert_eq!(get(proxy.address, "/v2/keys/a").await.status, 503);
    proxy.stop().await;
}

#[tokio::test]
async fn peer_urls_are_kept_and_go_before_flags() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let mut config = from_peers(&[member.url()]);
    config.kept_peer_urls = saved_by_a_run(&mut config).await;
    assert_eq!(config.kept_peer_urls, [member.url()]);
    // The flags are outdated by now; the kept URLs are not.
    config.members = MembersFrom::Peers(vec!["http://127.0.0.1:1".to_owned()]);
    Running::start(config).await.knows(1).await.stop().await;
}

/// The peer URLs that a proxy saves until it stops.
async fn saved_by_a_run(config: &mut ProxyConfig) -> Vec<String> {
    let (saver, saved) = std::sync::mpsc::channel();
    config.save_peer_urls = Some(SavePeerUrls::new(move |urls| {
        saver.send(urls.to_vec()).map_err(std::io::Error::other)
    }));
    let proxy = Running::start(config.clone()).await.knows(1).await;
    proxy.stop().await;
    config.save_peer_urls = None;
    saved.try_iter().last().unwrap()
}

/// A host of a cluster that restarts while all members are away: they may come back.
#[tokio::test]
async fn a_proxy_whose_earlier_life_had_members_holds_requests_for_them() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let mut config = from_peers(&[member.url()]);
    config.request_timeout = Duration::from_secs(2);
    config.kept_peer_urls = saved_by_a_run(&mut config).await;
    member.kill().await;
    a_request_is_held(config).await;
}

/// A proxy without a member holds a request for its two seconds.
async fn a_request_is_held(config: ProxyConfig) {
    let mut proxy = Running::start(config).await;
    (&mut proxy.ready).await.unwrap();
    let began = Instant::now();
    assert_eq!(get(proxy.address, "/v2/keys/a").await.status, 503);
    assert!(Duration::from_secs(2) <= began.elapsed());
    proxy.stop().await;
}

/// Discovery makes a proxy as soon as enough members have registered; they may take longer to
/// start.
#[tokio::test]
async fn a_proxy_that_expects_members_holds_requests_for_the_first() {
    let mut config = from_peers(&["http://127.0.0.1:1".to_owned()]);
    config.members_expected = true;
    config.request_timeout = Duration::from_secs(2);
    a_request_is_held(config).await;
}

#[tokio::test]
async fn a_member_that_advertises_this_proxy_is_not_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    member.advertise(vec![own, member.url()]);
    let proxy = Running::start_on(listener, from_peers(&[member.url()]))
        .knows(1)
        .await;
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/v2/keys/a").await.body, "x");
    }
    proxy.stop().await;
}

/// The address proves nothing here: something else listens there and leads back.
#[tokio::test]
async fn a_loop_through_others_is_found_by_its_mark() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_address = listener.local_addr().unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_url = format!("http://{}", relay.local_addr().unwrap());
    let relaying = tokio::spawn(async move {
        while let Ok((mut near, _)) = relay.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(proxy_address).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    member.advertise(vec![relay_url, member.url()]);
    let proxy = Running::start_on(listener, from_peers(&[member.url()]));
    for _ in 0..10 {
        let answer = get(proxy.address, "/v2/keys/a").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "x"));
    }
    proxy.knows(1).await.stop().await;
    relaying.abort();
}
