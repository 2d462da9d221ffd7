//! Watches of the v2 API outlive the member they were sent to.

use std::time::Duration;

use crate::support::{Client, Fake, Running, Seen, Step, answer, answer_at, get};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Etcd-Index: 7\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

fn event(index: u64) -> String {
    format!("{{\"action\":\"set\",\"node\":{{\"key\":\"/a\",\"modifiedIndex\":{index}}}}}\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A head, and nothing more.
fn waits(_: &Seen) -> Vec<Step> {
    vec![Step::Send(HEAD.to_owned()), Step::Hang]
}

/// An event at once.
fn tells(index: u64) -> Vec<Step> {
    let text = format!("{HEAD}{}0\r\n\r\n", chunk(&event(index)));
    vec![Step::Send(text)]
}

/// A wait whose client has its head already.
struct Begun {
    member: Fake,
    proxy: Running,
    client: Client,
}

impl Begun {
    /// At a member that answers it like this.
    async fn at(member: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static, path: &str) -> Begun {
        let member = Fake::start(member).await;
        let proxy = Running::before(&[&member]).await;
        let mut client = Client::connect(proxy.address).await;
        client.send("GET", path, "").await;
        assert_eq!(client.head().await.status, 200);
        assert_eq!(member.seen().len(), 1);
        Begun {
            member,
            proxy,
            client,
        }
    }

    /// Its member dies, and another does this in its place.
    async fn goes_on(
        self,
        next: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> (Fake, Running, Client) {
        let address = self.member.kill().await;
        let next = Fake::start_at(address, next).await;
        (next, self.proxy, self.client)
    }
}

#[tokio::test]
async fn a_wait_passes_and_the_connection_goes_on() {
    let member = Fake::start(|seen| match seen.line.contains("wait") {
        true => {
            let rest = format!("{}0\r\n\r\n", chunk(&event(8)));
            let pause = Step::Sleep(Duration::from_millis(300));
            vec![Step::Send(HEAD.to_owned()), pause, Step::Send(rest)]
        }
        false => answer_at(8, "200 OK", "x"),
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..3 {
        client.send("GET", "/v2/keys/a?wait=true", "").await;
        let head = client.head().await;
        assert_eq!(head.field("X-Etcd-Index"), Some("7"));
        assert_eq!(head.field("Content-Type"), Some("application/json"));
        assert_eq!(client.chunks().await, event(8));
        assert_eq!(client.ask("GET", "/v2/keys/a", "").await.body, "x");
    }
    assert_eq!(member.connections(), 1);
    proxy.stop().await;
}

/// Whose member dies after it has waited for so long: the request that another member then gets.
async fn reissued(query: &str, waited: Duration) -> String {
    let begun = Begun::at(waits, &format!("/v2/keys/a?{query}")).await;
    tokio::time::sleep(waited).await;
    let (next, proxy, mut client) = begun.goes_on(|_| tells(9)).await;
    assert_eq!(client.chunks().await, event(9));
    proxy.stop().await;
    let seen = next.seen();
    assert_eq!(seen.len(), 1);
    seen[0].line.clone()
}

#[tokio::test]
async fn a_wait_whose_member_dies_goes_on_elsewhere() {
    let line = reissued("wait=true&recursive=true", Duration::ZERO).await;
    assert_eq!(
        line,
        "GET /v2/keys/a?wait=true&recursive=true&waitIndex=8 HTTP/1.1"
    );
    // The history's event may have been on its way.
    let line = reissued("wait=true&waitIndex=3", Duration::ZERO).await;
    assert_eq!(line, "GET /v2/keys/a?wait=true&waitIndex=3 HTTP/1.1");
    let line = reissued("wait=true&waitIndex=3", Duration::from_secs(1)).await;
    assert_eq!(line, "GET /v2/keys/a?wait=true&waitIndex=8 HTTP/1.1");
    let line = reissued("wait=true&waitIndex=1000", Duration::from_secs(1)).await;
    assert_eq!(line, "GET /v2/keys/a?wait=true&waitIndex=1000 HTTP/1.1");
}

#[tokio::test]
async fn half_an_event_is_not_passed_on() {
    let half = |_: &Seen| {
        let text = format!("{HEAD}5\r\n{{\"act\r\n");
        vec![
            Step::Send(text),
            Step::Sleep(Duration::from_millis(100)),
            Step::Close,
        ]
    };
    let begun = Begun::at(half, "/v2/keys/a?wait=true").await;
    let (_two, proxy, mut client) = begun.goes_on(|_| tells(9)).await;
    assert_eq!(client.chunks().await, event(9));
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_goes_on_after_its_last_event() {
    let two_events = |_: &Seen| {
        let text = format!("{HEAD}{}{}", chunk(&event(8)), chunk(&event(11)));
        vec![Step::Send(text), Step::Hang]
    };
    let mut begun = Begun::at(two_events, "/v2/keys/a?wait=true&stream=true").await;
    let mut events = String::new();
    while events.matches('\n').count() < 2 {
        events += &begun.client.chunk().await.unwrap();
    }
    assert_eq!(events, event(8) + &event(11));
    let (two, proxy, mut client) = begun.goes_on(|_| tells(12)).await;
    assert_eq!(client.chunks().await, event(12));
    let line = &two.seen()[0].line;
    assert_eq!(
        line,
        "GET /v2/keys/a?wait=true&stream=true&waitIndex=12 HTTP/1.1"
    );
    proxy.stop().await;
}

/// What a client receives after its head, when another member answers the watch like this.
/// `None`: the answer is cut.
async fn told_by_another(first: String, other: Vec<Step>) -> Option<String> {
    let first = move |_: &Seen| vec![Step::Send(first.clone()), Step::Hang];
    let begun = Begun::at(first, "/v2/keys/a?wait=true").await;
    let (_two, proxy, mut client) = begun.goes_on(move |_| other.clone()).await;
    let told = match client.is_cut_or_more().await {
        true => None,
        false => Some(client.chunks().await),
    };
    proxy.stop().await;
    told
}

#[tokio::test]
async fn history_that_is_gone_cuts_the_answer() {
    let gone = answer("400 Bad Request", "{\"errorCode\":401}");
    assert_eq!(told_by_another(HEAD.to_owned(), gone).await, None);
}

/// A member that sends all of its history, slowly.
#[tokio::test]
async fn a_stream_does_not_skip_the_rest_of_its_history() {
    let head = HEAD.replace("Index: 7", "Index: 90");
    let history = format!("{head}{}", chunk(&event(8)));
    let history = move |_: &Seen| vec![Step::Send(history.clone()), Step::Hang];
    let mut begun = Begun::at(history, "/v2/keys/a?wait=true&stream=true&waitIndex=8").await;
    assert_eq!(begun.client.chunk().await.unwrap(), event(8));
    // Longer than what is in the history may take.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (two, proxy, mut client) = begun.goes_on(|_| tells(9)).await;
    assert_eq!(client.chunks().await, event(9));
    assert!(two.seen()[0].line.contains("&waitIndex=9 "));
    proxy.stop().await;
}

#[tokio::test]
async fn another_cluster_cuts_the_answer() {
    let of = |cluster: &str, index: u64| {
        let fields = format!("X-Etcd-Cluster-Id: {cluster}\r\nX-Etcd-Index: {index}");
        HEAD.replace("X-Etcd-Index: 7", &fields)
    };
    let tells = |head: String| vec![Step::Send(format!("{head}{}0\r\n\r\n", chunk(&event(9))))];
    let first = of("cdf818194e3a8c32", 1500);
    for (other, told) in [
        (of("d90fb84967356924", 1500), None),
        // With the same URLs and the same token it has the same id too, but it counts anew.
        (of("cdf818194e3a8c32", 7), None),
        (of("cdf818194e3a8c32", 1499), Some(event(9))),
    ] {
        assert_eq!(told_by_another(first.clone(), tells(other)).await, told);
    }
}

#[tokio::test]
async fn a_wait_leaves_a_member_that_stopped() {
    let one = Fake::start(waits).await;
    let two = Fake::start(|_| tells(9)).await;
    two.set_healthy(false);
    let proxy = Running::before(&[&one, &two]).await;
    proxy.puts_last(&two.url()).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET", "/v2/keys/a?wait=true", "").await;
    client.head().await;
    one.set_silent();
    // A slow read requests the health check.
    get(proxy.address, "/v2/keys/b").await;
    assert_eq!(client.chunks().await, event(9));
    proxy.stop().await;
}

#[tokio::test]
async fn a_wait_that_is_refused_is_answered_as_the_member_does() {
    let refusal =
        "{\"errorCode\":401,\"message\":\"The event in requested index is outdated and cleared\"}";
    let member = Fake::start(move |_| answer("400 Bad Request", refusal)).await;
    let proxy = Running::before(&[&member]).await;
    let answer = get(proxy.address, "/v2/keys/a?wait=true&waitIndex=1").await;
    assert_eq!((answer.status, answer.body.as_str()), (400, refusal));
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_waiting_is_not_waited_for() {
    let begun = Begun::at(waits, "/v2/keys/a?wait=true").await;
    // A look at the member may be under way too.
    assert_ne!(begun.member.open(), 0);
    drop(begun.client);
    begun.member.has_no_connection().await;
}

#[tokio::test]
async fn a_proxy_that_stops_cuts_its_waits() {
    let begun = Begun::at(waits, "/v2/keys/a?wait=true").await;
    let (proxy, mut client) = (begun.proxy, begun.client);
    let mut old = Client::connect(proxy.address).await;
    // Not parked: such an answer is a stream within HTTP's machinery.
    let old_request = b"GET /v2/keys/a?wait=true HTTP/1.0\r\n\r\n";
    old.send_bytes(old_request).await;
    old.head().await;
    proxy.stop().await;
    assert!(client.is_cut().await);
    assert!(old.is_cut().await);
}

/// As a member's that stops: the client sees nothing of it.
#[tokio::test]
async fn a_wait_that_a_member_cuts_goes_on_elsewhere() {
    let cuts = |_: &Seen| {
        vec![
            Step::Send(HEAD.to_owned()),
            Step::Sleep(Duration::from_millis(50)),
            Step::Close,
        ]
    };
    let begun = Begun::at(cuts, "/v2/keys/a?wait=true").await;
    let (_two, proxy, mut client) = begun.goes_on(|_| tells(9)).await;
    assert_eq!(client.chunks().await, event(9));
    proxy.stop().await;
}

/// On a connection that the proxy reads itself, and on one that hyper reads.
#[tokio::test]
async fn a_watch_that_waits_is_counted_as_handled() {
    let member = Fake::start(waits).await;
    let proxy = Running::before(&[&member]).await;
    let mut clients = vec![];
    for (count, field) in [(1, ""), (2, "Connection: x\r\n")] {
        let mut client = Client::connect(proxy.address).await;
        let text = format!("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        client.send_bytes(text.as_bytes()).await;
        assert_eq!(client.head().await.status, 200);
        let metrics = get(proxy.address, "/metrics").await.body;
        let line = format!("etcd_proxy_handled_total{{code=\"200\",method=\"GET\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
        clients.push(client);
    }
}
