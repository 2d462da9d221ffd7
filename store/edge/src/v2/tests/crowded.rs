//! Large requests and answers of many clients at a time: limited together, and later requests are
//! served.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use keelson_port::Drain;
use tokio::task::JoinSet;

use crate::CallMetrics;
use crate::large::LargeAnswers;
use crate::tests::fake::Fake;
use crate::v2::body::Bodies;
use crate::v2::{Api, V2};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn v2(shrink: impl FnOnce(&mut Api<Fake>)) -> V2<Fake> {
    let (_, drain) = Drain::channel();
    let fake = Fake::new(([127, 0, 0, 1], 0).into());
    fake.set(|state| state.takes_large = true);
    let mut v2 = V2::new(fake, &drain, CallMetrics::default());
    shrink(Arc::get_mut(&mut v2.0).expect("no clone yet"));
    v2
}

fn form(method: Method, target: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri(target);
    request.header("content-type", "application/x-www-form-urlencoded")
}

async fn change(v2: &V2<Fake>, method: Method, target: &str, body: String) -> Response {
    let request = form(method, target).body(Full::<Bytes>::from(body));
    v2.answer(request.expect("valid")).await
}

async fn text(answer: Response) -> String {
    let body = answer.into_body().collect().await.expect("whole");
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

/// The body as text, if it is short.
async fn refusal(answer: Response) -> String {
    let text = text(answer).await;
    assert!(text.len() < KIB, "{} bytes", text.len());
    text
}

const CROWDED: &str = "too many large answers wait for their clients; try again";

/// The paused clock advances when every task waits.
#[tokio::test(start_paused = true)]
async fn forms_that_are_being_read_are_bounded_together() {
    let v2 = v2(|inner| inner.bodies = Bodies::within(MIB));
    let mut readers = JoinSet::new();
    for _ in 0..9 {
        let v2 = v2.clone();
        readers.spawn(async move {
            // Two chunks, and then nothing more.
            let piece = || Ok::<_, hyper::Error>(Frame::data(Bytes::from(vec![b'v'; 200 * KIB])));
            let pieces = stream::iter([piece(), piece()]).chain(stream::pending());
            let body = StreamBody::new(pieces.boxed());
            v2.answer(form(Method::PUT, "/v2/keys/a").body(body).unwrap())
                .await
        });
    }
    let first = readers.join_next().await.expect("one").unwrap();
    assert_eq!(first.status(), 500);
    let text = refusal(first).await;
    assert!(
        text.contains("too many large requests are being read; try again"),
        "{text}"
    );
    // A small body always has room.
    let small = change(
        &v2,
        Method::PUT,
        "/v2/keys/b",
        format!("value={}", "v".repeat(9 * KIB)),
    );
    assert_eq!(small.await.status(), 201);
    let soon = tokio::time::sleep(Duration::from_secs(30));
    tokio::pin!(soon);
    let mut refused = 1;
    loop {
        tokio::select! {
            _ = &mut soon => break,
            Some(_) = readers.join_next() => refused += 1,
        }
    }
    assert!(
        (9 - 5..9).contains(&refused),
        "{refused} of 9, within 1 MiB of 400 KiB each"
    );
    // The room of aborted requests is released.
    readers.shutdown().await;
    let large = change(
        &v2,
        Method::PUT,
        "/v2/keys/c",
        format!("value={}", "v".repeat(900 * KIB)),
    );
    assert_eq!(large.await.status(), 201);
    let again = change(
        &v2,
        Method::PUT,
        "/v2/keys/c",
        format!("value={}", "v".repeat(900 * KIB)),
    );
    assert_eq!(again.await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_name_a_large_value_are_bounded_while_they_are_not_read() {
    let v2 = v2(|inner| inner.events = LargeAnswers::within(12 * MIB));
    let value = format!("value={}", "v".repeat(3 * MIB / 2));
    assert_eq!(
        change(&v2, Method::PUT, "/v2/keys/a", value).await.status(),
        201
    );
    let swap = || {
        change(
            &v2,
            Method::PUT,
            "/v2/keys/a",
            "value=x&prevValue=y".to_owned(),
        )
    };
    let (one, two) = (swap().await, swap().await);
    assert_eq!((one.status().as_u16(), two.status().as_u16()), (412, 412));
    let three = swap().await;
    assert_eq!(three.status(), 500);
    let crowded = refusal(three).await;
    assert!(crowded.contains(CROWDED), "{crowded}");
    drop(one);
    assert!(text(swap().await).await.contains("[y != vvv"));
    drop(two);
}

#[tokio::test(start_paused = true)]
async fn answers_to_changes_and_watches_are_bounded_while_they_are_not_read() {
    let v2 = v2(|inner| inner.events = LargeAnswers::within(12 * MIB));
    let value = || format!("value={}", "v".repeat(3 * MIB / 2));
    let made = change(&v2, Method::PUT, "/v2/keys/a", value()).await;
    assert_eq!(made.status(), 201);
    let index = made.headers()["x-etcd-index"].to_str().unwrap();
    let index: u64 = index.parse().unwrap();
    // An answer with the previous value has room once the first answer is gone.
    drop(made);
    let replaced = change(&v2, Method::PUT, "/v2/keys/a", value()).await;
    assert_eq!(replaced.status(), 200);
    let deleted = change(&v2, Method::DELETE, "/v2/keys/a", String::new()).await;
    assert_eq!(deleted.status(), 500);
    let refused = refusal(deleted).await;
    assert!(
        refused.contains("the change was made, but too many large answers"),
        "{refused}"
    );
    let wait = |index: u64, kind: &str| {
        let target = format!("/v2/keys/a?wait=true&waitIndex={index}{kind}");
        let request = Request::get(target).body(Full::<Bytes>::default());
        v2.answer(request.expect("valid"))
    };
    // The event of the held answer, encoded once for all clients.
    let (one, two) = (wait(index + 1, "").await, wait(index + 1, "").await);
    assert_eq!((one.status().as_u16(), two.status().as_u16()), (200, 200));
    let first = wait(index, "").await;
    assert_eq!(first.status(), 500);
    assert!(refusal(first).await.contains(CROWDED));
    let cut = wait(index, "&stream=true")
        .await
        .into_body()
        .collect()
        .await;
    assert!(cut.is_err(), "no whole answer without its event");
    drop((one, two, replaced));
    assert!(text(wait(index, "").await).await.len() > MIB);
}
