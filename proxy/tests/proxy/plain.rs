//! Requests that are answered on the bare socket, however they arrive, and those that are not.

use std::time::Duration;

use crate::support::{Client, Fake, Running, Seen, Step, answer};

fn echo(seen: &Seen) -> Vec<Step> {
    let path = seen.line.split(' ').nth(1).unwrap();
    answer("200 OK", &format!("{path} {}", seen.body))
}

fn put(path: &str, body: &str) -> String {
    let length = body.len();
    format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn expect(client: &mut Client, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(client.answer("PUT").await.body, *body);
    }
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_order() {
    let member = Fake::start(echo).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    // The third goes through hyper, which must get what is left, and give back what follows.
    let chunked =
        "PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n3\r\n0\r\n\r\n";
    let burst = [
        put("/a", "1"),
        put("/b", "2"),
        chunked.to_owned(),
        put("/d", "4"),
    ];
    client.send_bytes(burst.concat().as_bytes()).await;
    expect(&mut client, &["/a 1", "/b 2"]).await;
    assert!(client.answer("PUT").await.body.starts_with("/c 1"));
    expect(&mut client, &["/d 4"]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn requests_may_come_in_any_pieces() {
    let member = Fake::start(echo).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    let text = put("/a", "value");
    for cut in 1..text.len() {
        client.send_bytes(&text.as_bytes()[..cut]).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        client.send_bytes(&text.as_bytes()[cut..]).await;
        expect(&mut client, &["/a value"]).await;
    }
    // Longer than what is read at first, and than what is read for a head.
    for size in [600, 1100, 20_000, 60_000] {
        let body = "v".repeat(size);
        client.send_bytes(put("/a", &body).as_bytes()).await;
        expect(&mut client, &[&format!("/a {body}")]).await;
        let head = format!("GET /a HTTP/1.1\r\nHost: x\r\nX-Long: {body}\r\n\r\n");
        if size < 60_000 {
            client.send_bytes(head.as_bytes()).await;
            expect(&mut client, &["/a "]).await;
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_may_take_its_time_for_the_body() {
    let member = Fake::start(echo).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    let text = put("/a", "value");
    let (head, body) = text.as_bytes().split_at(text.len() - 3);
    client.send_bytes(head).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.send_bytes(body).await;
    expect(&mut client, &["/a value"]).await;
    client.send_bytes(put("/b", "2").as_bytes()).await;
    expect(&mut client, &["/b 2"]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_wants_the_end_gets_it() {
    let member = Fake::start(echo).await;
    let proxy = Running::before(&[&member]).await;
    for fields in [
        "Connection: close\r\n",
        "Connection: Close\r\nExpect: 100-continue\r\n",
    ] {
        let mut client = Client::connect(proxy.address).await;
        let text = format!("GET /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        client.send_bytes(text.as_bytes()).await;
        let answer = client.answer("GET").await;
        assert_eq!(answer.body, "/a ");
        assert!(
            answer.head.to_lowercase().contains("connection: close"),
            "{}",
            answer.head
        );
        assert!(client.is_cut().await);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_member_that_closes_is_not_the_end_for_the_client() {
    let member = Fake::start(|seen| {
        let mut steps = echo(seen);
        steps.push(Step::Close);
        steps
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..5 {
        client
            .send_bytes(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        expect(&mut client, &["/a "]).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn characters_that_only_go_takes_are_mended_in_every_request() {
    let member = Fake::start(echo).await;
    let proxy = Running::before(&[&member]).await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..3 {
        let text = "GET /v2/keys/<a>?prevValue=\"x\" HTTP/1.1\r\nHost: x\r\n\r\n";
        client.send_bytes(text.as_bytes()).await;
        expect(&mut client, &["/v2/keys/%3Ca%3E?prevValue=%22x%22 "]).await;
    }
    proxy.stop().await;
}
