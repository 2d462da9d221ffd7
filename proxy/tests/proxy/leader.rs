//! Writes go to the member that leads.

use std::time::{Duration, Instant};

use keelson_proxy::MembersFrom;

use crate::support::{Client, Fake, Running, Step, answer, config, get, put};

async fn three() -> [Fake; 3] {
    [
        Fake::start(|_| answer("200 OK", "one")).await,
        Fake::start(|_| answer("200 OK", "two")).await,
        Fake::start(|_| answer("200 OK", "three")).await,
    ]
}

async fn written(proxy: &Running) -> String {
    put(proxy.address, "/v2/keys/a", "value=1").await.body
}

async fn read(proxy: &Running) -> String {
    get(proxy.address, "/v2/keys/a").await.body
}

#[tokio::test]
async fn a_write_goes_to_the_leader_and_reads_stay() {
    let [one, two, three] = three().await;
    let proxy = Running::before(&[&one, &two, &three]).await;
    // Before the first probes any member may be the nearest.
    for fake in [&one, &two, &three] {
        fake.was_looked_at().await;
    }
    let near = read(&proxy).await;
    // None has the path: writes go where reads go.
    assert_eq!(written(&proxy).await, near);
    let (leader, name) = match near.as_str() {
        "one" => (&two, "two"),
        _ => (&one, "one"),
    };
    for other in [&one, &two, &three] {
        other.set_leads(false);
    }
    leader.set_leads(true);
    let proxy = {
        proxy.stop().await;
        Running::before(&[&one, &two, &three]).await
    };
    proxy.follows(&leader.url()).await;
    let near = read(&proxy).await;
    let mut client = Client::connect(proxy.address).await;
    for method in ["PUT", "POST", "DELETE"] {
        let answer = client.ask(method, "/v2/keys/a", "value=1").await;
        assert_eq!(answer.body, name, "{method}");
        assert_eq!(read(&proxy).await, near);
    }
    let range = client.ask("POST", "/v3/kv/range", "{}").await;
    assert_eq!(range.body, near);
    proxy.stop().await;
}

/// Returns once a new leader is known, which is before the next calm look is due, ten seconds
/// later.
async fn is_followed(leader: &Fake, proxy: &Running) {
    let began = Instant::now();
    proxy.follows(&leader.url()).await;
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_leader_that_goes_is_replaced_at_once() {
    let [one, two, three] = three().await;
    one.set_leads(true);
    two.set_leads(false);
    let proxy = Running::before(&[&one, &two, &three]).await;
    proxy.follows(&one.url()).await;
    assert_eq!(written(&proxy).await, "one");
    one.kill().await;
    // The others have not elected a leader yet.
    assert_ne!(written(&proxy).await, "one");
    tokio::time::sleep(Duration::from_millis(400)).await;
    two.set_leads(true);
    is_followed(&two, &proxy).await;
    assert_eq!(written(&proxy).await, "two");
    proxy.stop().await;
}

#[tokio::test]
async fn a_leader_that_is_not_healthy_is_no_longer_preferred() {
    let slow = Step::Sleep(Duration::from_millis(500));
    let script = move |_: &_| [vec![slow.clone()], answer("200 OK", "one")].concat();
    let one = Fake::start(script).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    one.set_leads(true);
    let proxy = Running::before(&[&one, &two]).await;
    proxy.follows(&one.url()).await;
    one.set_healthy(false);
    two.set_leads(true);
    // It is slow, so the proxy looks at it, and then at the others.
    assert_eq!(written(&proxy).await, "one");
    is_followed(&two, &proxy).await;
    assert_eq!(written(&proxy).await, "two");
    proxy.stop().await;
}

#[tokio::test]
async fn a_write_does_not_wait_for_the_leader_to_be_known() {
    let one = Fake::start(|_| answer("200 OK", "one")).await;
    let mut config = config(&[&one]);
    config.members = MembersFrom::Clients(vec![one.url()]);
    let proxy = Running::start(config).await;
    let began = Instant::now();
    assert_eq!(written(&proxy).await, "one");
    assert!(began.elapsed() < Duration::from_secs(2));
    proxy.stop().await;
}

#[tokio::test]
async fn a_write_left_unanswered_by_the_leader_is_not_repeated() {
    let one = Fake::start(|_| vec![Step::Close]).await;
    let two = Fake::start(|_| answer("200 OK", "two")).await;
    one.set_leads(true);
    let proxy = Running::before(&[&one, &two]).await;
    proxy.follows(&one.url()).await;
    let refused = put(proxy.address, "/v2/keys/a", "value=1").await;
    assert_eq!(refused.status, 500);
    assert_eq!(one.seen().len(), 1);
    assert!(two.seen().is_empty());
    proxy.stop().await;
}
