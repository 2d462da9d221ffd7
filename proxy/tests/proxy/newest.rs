//! Read-your-writes: a client that writes through a proxy reads what it wrote.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Fake, Running, Seen, Step, answer_at, config, get, put, until};

/// A leader that has come to index 10, and a follower whose index is given, behind a proxy that
/// prefers the follower.
async fn behind(follower_at: &Arc<AtomicU64>) -> (Fake, Fake, Running) {
    let leader = Fake::start(|_| answer_at(10, "200 OK", "leader")).await;
    let at = Arc::clone(follower_at);
    let script = move |_: &Seen| {
        let index = at.load(Ordering::Relaxed);
        answer_at(index, "200 OK", &format!("follower {index}"))
    };
    let follower = Fake::start(script).await;
    let proxy = preferring_the_follower(&leader, &follower).await;
    (leader, follower, proxy)
}

/// Reads go to the follower, writes to the leader, which names itself in its answers.
async fn preferring_the_follower(leader: &Fake, follower: &Fake) -> Running {
    leader.set_leads(true);
    follower.set_leads(false);
    // Which of them is preferred is chance.
    for _ in 0..50 {
        let proxy = Running::before(&[leader, follower]).await;
        proxy.follows(&leader.url()).await;
        if read(&proxy).await != "leader" {
            return proxy;
        }
        proxy.stop().await;
    }
    panic!("fifty proxies prefer the leader");
}

/// The same, after the leader has answered a write; the follower is one behind.
async fn written_behind(follower_at: &Arc<AtomicU64>) -> (Fake, Fake, Running) {
    follower_at.store(9, Ordering::Relaxed);
    let (leader, follower, proxy) = behind(follower_at).await;
    assert_eq!(written(&proxy).await, "leader");
    (leader, follower, proxy)
}

/// A leader where another one was.
async fn leads_at(
    address: SocketAddr,
    script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
) -> Fake {
    let leader = Fake::start_at(address, script).await;
    leader.set_leads(true);
    leader
}

async fn read(proxy: &Running) -> String {
    get(proxy.address, "/v2/keys/a").await.body
}

async fn written(proxy: &Running) -> String {
    put(proxy.address, "/v2/keys/a", "value=1").await.body
}

#[tokio::test]
async fn a_member_that_has_not_come_as_far_is_not_believed() {
    let at = Arc::new(AtomicU64::new(9));
    let (leader, follower, proxy) = behind(&at).await;
    // No client has seen a higher index.
    assert_eq!(read(&proxy).await, "follower 9");
    assert_eq!(written(&proxy).await, "leader");
    assert_eq!(read(&proxy).await, "leader");
    at.store(10, Ordering::Relaxed);
    // For a moment it gets no reads.
    until("the follower is asked again", async || {
        read(&proxy).await == "follower 10"
    })
    .await;
    drop((leader, follower));
    proxy.stop().await;
}

#[tokio::test]
async fn who_has_changed_members_or_accounts_sees_the_change() {
    let (leader, follower, proxy) = behind(&Arc::new(AtomicU64::new(10))).await;
    for path in ["/v2/members", "/v2/auth/users", "/v3/auth/user/add"] {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.ask("POST", path, "{}").await.body, "leader");
        assert_eq!(client.ask("GET", path, "").await.body, "leader", "{path}");
    }
    // Access to keys depends on accounts, and a member without the change would allow too much.
    assert_eq!(read(&proxy).await, "leader");
    let waited = get(proxy.address, "/v2/keys/a?wait=true").await.body;
    assert_eq!(waited, "leader");
    // Members list each other without a leader, too.
    leader.kill().await;
    let members = get(proxy.address, "/v2/members").await.body;
    assert_eq!(members, "follower 10");
    drop(follower);
    proxy.stop().await;
}

/// The new leader may not have applied it yet.
#[tokio::test]
async fn a_change_that_a_follower_has_answered_is_seen_there() {
    let one = Fake::start(|_| answer_at(7, "200 OK", "one")).await;
    let two = Fake::start(|_| answer_at(7, "200 OK", "two")).await;
    let lost = Fake::start(|_| answer_at(7, "200 OK", "lost")).await;
    one.set_leads(false);
    two.set_leads(false);
    lost.set_leads(true);
    let mut config = config(&[&one, &two, &lost]);
    config.catch_up = Duration::from_secs(8);
    let proxy = Running::start(config).await.knows(3).await;
    proxy.follows(&lost.url()).await;
    lost.kill().await;
    let mut client = Client::connect(proxy.address).await;
    let answered = client.ask("POST", "/v2/members", "{}").await.body;
    let next = match answered.as_str() {
        "one" => &two,
        _ => &one,
    };
    next.set_leads(true);
    proxy.follows(&next.url()).await;
    assert_eq!(get(proxy.address, "/v2/members").await.body, answered);
    tokio::time::sleep(Duration::from_secs(8)).await;
    // In the end the leader has more.
    assert_ne!(get(proxy.address, "/v2/members").await.body, answered);
    proxy.stop().await;
}

/// A member that refuses a change may lack the last one.
#[tokio::test]
async fn who_refuses_a_change_is_not_asked_for_it() {
    let at = Arc::new(AtomicU64::new(10));
    let (leader, follower, proxy) = behind(&at).await;
    let address = leader.kill().await;
    let refuses = |_: &Seen| answer_at(0, "400 Bad Request", "refused");
    let leader = leads_at(address, refuses).await;
    proxy.follows(&leader.url()).await;
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(
        client.ask("POST", "/v2/members", "{}").await.body,
        "refused"
    );
    assert_eq!(read(&proxy).await, "follower 10");
    drop((leader, follower));
    proxy.stop().await;
}

#[tokio::test]
async fn without_a_leader_the_others_are_given_time_to_catch_up() {
    let at = Arc::default();
    let (leader, follower, proxy) = written_behind(&at).await;
    leader.kill().await;
    let catching_up = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        at.store(10, Ordering::Relaxed);
    };
    let (read, ()) = tokio::join!(read(&proxy), catching_up);
    assert_eq!(read, "follower 10");
    drop(follower);
    proxy.stop().await;
}

#[tokio::test]
async fn members_that_never_come_so_far_are_believed_after_a_while() {
    let (leader, follower, proxy) = written_behind(&Arc::default()).await;
    leader.kill().await;
    let began = Instant::now();
    assert_eq!(read(&proxy).await, "follower 9");
    assert!(Duration::from_millis(1500) <= began.elapsed());
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(read(&proxy).await, "follower 9");
    }
    // Once is enough.
    let asked = follower.seen().len();
    assert_eq!(read(&proxy).await, "follower 9");
    assert_eq!(follower.seen().len(), asked + 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_refusal_does_not_say_how_far_the_member_is() {
    for status in ["401 Unauthorized", "400 Bad Request"] {
        let member = Fake::start(|seen: &Seen| match seen.line.starts_with("PUT ") {
            true => answer_at(10, "200 OK", "written"),
            false => answer_at(0, status, "refused"),
        })
        .await;
        let proxy = Running::before(&[&member]).await;
        assert_eq!(written(&proxy).await, "written");
        assert_eq!(read(&proxy).await, "refused");
        let reads = member
            .seen()
            .iter()
            .filter(|seen| seen.line.starts_with("GET /v2/keys/a"))
            .count();
        assert_eq!(reads, 1, "{status}");
        proxy.stop().await;
    }
}

/// The first member has got its body, and the proxy has kept nothing of it.
#[tokio::test]
async fn a_read_whose_body_is_gone_is_not_asked_again() {
    let member = Fake::start(|seen: &Seen| match seen.line.starts_with("PUT ") {
        true => answer_at(10, "200 OK", "written"),
        false => answer_at(9, "200 OK", &format!("{} bytes", seen.body.len())),
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    assert_eq!(written(&proxy).await, "written");
    let body = "x".repeat(1 << 20);
    let mut client = Client::connect(proxy.address).await;
    let answer = client.ask("GET", "/v2/keys/a", &body).await;
    assert_eq!(answer.body, "1048576 bytes");
    assert_eq!(member.seen().len(), 2);
    proxy.stop().await;
}

/// A leader that was started again serves reads before it has applied its log, and a member that
/// fails proves nothing; but a refusal without an account is passed on.
#[tokio::test]
async fn of_two_answers_the_better_one_is_passed_on() {
    for (status, index, expected) in [
        ("404 Not Found", 2, "follower 9"),
        ("503 Service Unavailable", 0, "follower 9"),
        ("401 Unauthorized", 0, "leader"),
    ] {
        let (leader, follower, proxy) = written_behind(&Arc::default()).await;
        let address = leader.kill().await;
        let leader = leads_at(address, move |_| answer_at(index, status, "leader")).await;
        assert_eq!(read(&proxy).await, expected, "{status}");
        drop((leader, follower));
        proxy.stop().await;
    }
}

/// Another client has used the time up, while there was no leader.
#[tokio::test]
async fn the_leader_is_asked_however_late_it_is() {
    let (leader, follower, proxy) = written_behind(&Arc::default()).await;
    let address = leader.kill().await;
    let brief = Duration::from_millis(500);
    assert!(tokio::time::timeout(brief, read(&proxy)).await.is_err());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let late = |_: &Seen| {
        let mut steps = answer_at(10, "200 OK", "leader");
        steps.insert(0, Step::Sleep(Duration::from_millis(5)));
        steps
    };
    let leader = leads_at(address, late).await;
    proxy.follows(&leader.url()).await;
    assert_eq!(read(&proxy).await, "leader");
    drop((leader, follower));
    proxy.stop().await;
}

/// etcdctl and fleet have a timeout of a second for an answer's head, and retry later.
#[tokio::test]
async fn clients_without_patience_are_answered_in_the_end() {
    let (leader, follower, proxy) = written_behind(&Arc::default()).await;
    leader.kill().await;
    let second = Duration::from_secs(1);
    let mut answers = vec![];
    for _ in 0..4 {
        let answer = tokio::time::timeout(second, read(&proxy)).await;
        answers.push(answer.unwrap_or_else(|_| "late".to_owned()));
    }
    assert_eq!(answers[0], "late");
    assert_eq!(answers[3], "follower 9");
    drop(follower);
    proxy.stop().await;
}

#[tokio::test]
async fn reads_do_not_go_back_behind_what_the_leader_has_shown() {
    let at = Arc::default();
    let leader_at = Arc::new(AtomicU64::new(10));
    let (leader, follower, proxy) = written_behind(&at).await;
    let address = leader.kill().await;
    let now = Arc::clone(&leader_at);
    let script = move |_: &Seen| {
        let index = now.load(Ordering::Relaxed);
        answer_at(index, "200 OK", &format!("leader {index}"))
    };
    let leader = leads_at(address, script).await;
    proxy.follows(&leader.url()).await;
    // The follower is behind, so the next read goes to the leader, where others have written.
    assert_eq!(read(&proxy).await, "leader 10");
    leader_at.store(15, Ordering::Relaxed);
    assert_eq!(read(&proxy).await, "leader 15");
    at.store(12, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(read(&proxy).await, "leader 15");
    drop((leader, follower));
    proxy.stop().await;
}

#[tokio::test]
async fn who_has_written_and_then_waits_does_not_hear_of_it() {
    let at = Arc::default();
    let (leader, follower, proxy) = written_behind(&at).await;
    let wait = "/v2/keys/a?wait=true";
    assert_eq!(get(proxy.address, wait).await.body, "leader");
    // Its `waitIndex` is explicit.
    let since = get(proxy.address, "/v2/keys/a?wait=true&waitIndex=10").await;
    assert_eq!(since.body, "follower 9");
    // Better than nothing.
    let address = leader.kill().await;
    let leader = leads_at(address, |_| answer_at(0, "503 Service Unavailable", "")).await;
    proxy.follows(&leader.url()).await;
    assert_eq!(get(proxy.address, wait).await.body, "follower 9");
    at.store(10, Ordering::Relaxed);
    assert_eq!(get(proxy.address, wait).await.body, "follower 10");
    drop((leader, follower));
    proxy.stop().await;
}

/// A member that sends its head with the event has waited since it was behind.
#[tokio::test]
async fn an_event_is_news_however_old_its_head_is() {
    let event = r#"{"action":"set","node":{"key":"/a","modifiedIndex":11}}"#;
    let leader = Fake::start(|_| answer_at(10, "200 OK", "leader")).await;
    let follower = Fake::start(move |seen| match seen.line.contains("wait=true") {
        true => answer_at(9, "200 OK", event),
        false => answer_at(9, "200 OK", "follower"),
    })
    .await;
    let proxy = preferring_the_follower(&leader, &follower).await;
    assert_eq!(written(&proxy).await, "leader");
    assert_eq!(get(proxy.address, "/v2/keys/a?wait=true").await.body, event);
    proxy.stop().await;
}

#[tokio::test]
async fn who_has_heard_of_an_event_finds_it() {
    let event = r#"{"action":"set","node":{"key":"/a","modifiedIndex":10}}"#;
    let waits = |seen: &Seen| seen.line.contains("wait=true");
    let leader = Fake::start(move |seen| match waits(seen) {
        true => answer_at(9, "200 OK", event),
        false => answer_at(10, "200 OK", "leader"),
    })
    .await;
    let follower = Fake::start(move |seen| match waits(seen) {
        true => answer_at(9, "200 OK", event),
        false => answer_at(9, "200 OK", "follower"),
    })
    .await;
    let proxy = preferring_the_follower(&leader, &follower).await;
    let heard = get(proxy.address, "/v2/keys/a?wait=true").await;
    assert_eq!(heard.body, event);
    assert_eq!(read(&proxy).await, "leader");
    proxy.stop().await;
}
