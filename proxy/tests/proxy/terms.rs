//! A Raft term below one that clients have seen does not leave a proxy: Patroni refuses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Answer, Client, Fake, Running, Seen, Step, config, get, put, until};

const RANGE: &str = "/v3/kv/range";
const PUT: &str = "/v3/kv/put";

/// An answer with this term, of the v2 API or the JSON gateway. `after`: the rest of the body.
fn answer_in(seen: &Seen, term: u64, after: &str) -> Vec<Step> {
    let gateway = seen.line.contains(" /v3");
    let (field, body) = match gateway {
        true => {
            let header = format!(
                r#"{{"header":{{"cluster_id":"7","revision":"3","raft_term":"{term}"}},"kvs":[]"#
            );
            (String::new(), header + after + "}")
        }
        false => (format!("X-Raft-Term: {term}\r\n"), "{}".to_owned()),
    };
    if seen.line.contains("chunked") {
        return chunked(&[&body[..30], &body[30..]]);
    }
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\nContent-Length: {length}\r\n{field}Date: x\r\n\r\n"
    );
    match seen.line.contains("apart") {
        false => vec![Step::Send(head + &body)],
        true => {
            let (one, two) = body.split_at(30);
            vec![
                Step::Send(head),
                Step::Sleep(Duration::from_millis(20)),
                Step::Send(one.to_owned()),
                Step::Sleep(Duration::from_millis(20)),
                Step::Send(two.to_owned()),
            ]
        }
    }
}

/// An answer with these chunks, each on its own.
fn chunked(parts: &[&str]) -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::Send(head.to_owned())];
    for part in parts {
        steps.push(Step::Sleep(Duration::from_millis(20)));
        let length = part.len();
        steps.push(Step::Send(format!("{length:x}\r\n{part}\r\n")));
    }
    steps.push(Step::Send("0\r\n\r\n".to_owned()));
    steps
}

/// A member that answers in the term that is set.
async fn member(term: &Arc<AtomicU64>, after: &'static str) -> Fake {
    let term = Arc::clone(term);
    Fake::start(move |seen| answer_in(seen, term.load(Ordering::SeqCst), after)).await
}

fn term(answer: &Answer) -> u64 {
    let of_body = || {
        let (_, rest) = answer.body.split_once(r#""raft_term":""#)?;
        rest.split('"').next()
    };
    let text = answer.field("X-Raft-Term").or_else(of_body).unwrap();
    text.parse().unwrap()
}

async fn post(proxy: &Running, path: &str) -> Answer {
    let mut client = Client::connect(proxy.address).await;
    client.ask("POST", path, "{}").await
}

/// A leader in term 10 and a follower in term 9, behind a proxy that prefers the follower for
/// reads.
async fn behind() -> (Fake, Fake, Arc<AtomicU64>, Running) {
    let at = Arc::new(AtomicU64::new(9));
    let leader = member(&Arc::new(AtomicU64::new(10)), r#","of":"leader""#).await;
    let follower = member(&at, r#","of":"follower""#).await;
    leader.set_leads(true);
    follower.set_leads(false);
    for _ in 0..50 {
        let proxy = Running::before(&[&leader, &follower]).await;
        proxy.follows(&leader.url()).await;
        if post(&proxy, RANGE).await.body.contains("follower") {
            return (leader, follower, at, proxy);
        }
        proxy.stop().await;
    }
    panic!("fifty proxies prefer the leader");
}

#[tokio::test]
async fn a_read_in_a_lower_term_is_answered_by_a_member_in_the_term() {
    for path in ["/v2/keys/a", "/v2/stats/leader"] {
        let (_leader, _follower, _at, proxy) = behind().await;
        assert_eq!(term(&get(proxy.address, path).await), 9);
        assert_eq!(term(&put(proxy.address, "/v2/keys/a", "value=1").await), 10);
        assert_eq!(term(&get(proxy.address, path).await), 10);
    }
    let (_leader, _follower, at, proxy) = behind().await;
    assert_eq!(term(&post(&proxy, PUT).await), 10);
    for path in [RANGE, "/v3/apart/kv/range", "/v3/chunked/kv/range"] {
        assert_eq!(term(&post(&proxy, path).await), 10);
    }
    // A v2 watch is a read as well.
    let watched = get(proxy.address, "/v2/keys/a?wait=true").await;
    assert_eq!(term(&watched), 10);
    at.store(10, Ordering::SeqCst);
    let answered = post(&proxy, RANGE).await;
    assert!(answered.body.contains("follower"), "{}", answered.body);
}

/// It has taken place, and is not repeated.
#[tokio::test]
async fn a_change_in_a_lower_term_is_answered_with_the_highest_one() {
    let at = Arc::new(AtomicU64::new(10));
    let member = member(&at, "").await;
    let proxy = Running::before(&[&member]).await;
    assert_eq!(term(&post(&proxy, RANGE).await), 10);
    at.store(9, Ordering::SeqCst);
    for (count, path) in [(2, PUT), (3, "/v3/apart/kv/put"), (4, "/v3/chunked/kv/put")] {
        let answer = post(&proxy, path).await;
        assert_eq!(term(&answer), 10);
        // The body is longer by a digit, and complete.
        assert!(answer.body.ends_with("[]}"), "{}", answer.body);
        assert_eq!(member.seen().len(), count);
    }
    let answer = put(proxy.address, "/v2/keys/a", "value=1").await;
    assert_eq!((term(&answer), answer.body.as_str()), (10, "{}"));
    assert_eq!(member.seen().len(), 5);
}

/// Patroni compares the term of each message.
#[tokio::test]
async fn no_message_of_a_stream_has_a_lower_term() {
    let message = |term: u64| format!(r#"{{"result":{{"header":{{"raft_term":"{term}"}}}}}}"#);
    let sent = [10, 9, 11, 1].map(message);
    let member = Fake::start(move |_| {
        let parts: Vec<&str> = sent.iter().map(String::as_str).collect();
        chunked(&parts)
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let expected = [10, 10, 11, 11].map(message).concat();
    assert_eq!(post(&proxy, "/v3/watch").await.body, expected);
    let expected = [11, 11, 11, 11].map(message).concat();
    assert_eq!(post(&proxy, "/v3/watch").await.body, expected);
}

#[tokio::test]
async fn a_member_that_does_not_go_on_with_an_answer_is_not_waited_for_without_limit() {
    let stalls = |head: &'static str| {
        move |_: &Seen| {
            vec![
                Step::Send(head.to_owned()),
                Step::Sleep(Duration::from_secs(60)),
            ]
        }
    };
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"header\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"hea",
    ] {
        let stalling = Fake::start(stalls(head)).await;
        let mut config = config(&[&stalling]);
        config.request_timeout = Duration::from_millis(300);
        let proxy = Running::start(config).await.knows(1).await;
        assert_eq!(post(&proxy, RANGE).await.status, 500);
        if head.contains("Length") {
            assert_eq!(post(&proxy, PUT).await.status, 500);
        }
    }
}

/// The cluster was set up anew, or restored.
#[tokio::test]
async fn a_term_that_no_member_has_for_some_time_is_forgotten() {
    let at = Arc::new(AtomicU64::new(10));
    let member = member(&at, "").await;
    let mut config = config(&[&member]);
    config.catch_up = Duration::from_millis(400);
    let proxy = Running::start(config).await.knows(1).await;
    assert_eq!(term(&post(&proxy, RANGE).await), 10);
    at.store(2, Ordering::SeqCst);
    until("the term is forgotten", async || {
        let answer = post(&proxy, RANGE).await;
        answer.status == 200 && term(&answer) == 2
    })
    .await;
    // Not on the word of a member without a leader.
    at.store(1, Ordering::SeqCst);
    member.set_healthy(false);
    proxy.puts_last(&member.url()).await;
    for _ in 0..2 {
        let answer = post(&proxy, RANGE).await;
        assert_eq!(answer.status, 500, "{}", answer.body);
    }
    member.set_healthy(true);
    until("the member is believed", async || {
        post(&proxy, RANGE).await.status == 200
    })
    .await;
}
