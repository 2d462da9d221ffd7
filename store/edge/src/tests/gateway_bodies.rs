//! Requests in JSON whose bodies wait: limited together, on every kind of path.

use std::time::Duration;

use axum::body::Body as HttpBody;
use futures_util::stream::{self, StreamExt};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::echo::Echo;
use crate::gateway::{self, JsonRoom};

const KIB: usize = 1024;

/// Room for four bodies of 200 KiB.
fn router() -> axum::Router {
    gateway::router(std::sync::Arc::new(Echo {
        json_room: JsonRoom::within(900 * KIB),
        ..Echo::default()
    }))
}

/// The beginning of a message of so many bytes, in chunks.
fn begun(bytes: usize) -> HttpBody {
    let start = std::iter::once(r#"{"x":""#.to_owned());
    let rest = std::iter::repeat_n("v".repeat(20 * KIB), bytes / (20 * KIB));
    let pieces = start.chain(rest).map(Ok::<_, std::convert::Infallible>);
    HttpBody::from_stream(stream::iter(pieces.collect::<Vec<_>>()).chain(stream::pending()))
}

async fn post(router: axum::Router, path: &str, body: HttpBody) -> (StatusCode, String) {
    let request = Request::post(path).body(body).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A body was read whole before its call took a turn: thousands of them on one connection, of 3 MiB
/// each. Time is paused, and advances when every task waits.
#[tokio::test(start_paused = true)]
async fn bodies_that_are_being_read_are_bounded_together() {
    for (path, whole) in [
        ("/v3/kv/put", StatusCode::NOT_IMPLEMENTED),
        ("/v3/maintenance/snapshot", StatusCode::OK),
        ("/v3/lease/keepalive", StatusCode::OK),
    ] {
        let router = router();
        let mut readers = JoinSet::new();
        for _ in 0..9 {
            let router = router.clone();
            readers.spawn(async move { post(router, path, begun(200 * KIB)).await });
        }
        let soon = tokio::time::sleep(Duration::from_secs(30));
        tokio::pin!(soon);
        let mut refused = 0;
        loop {
            tokio::select! {
                _ = &mut soon => break,
                Some(answer) = readers.join_next() => {
                    let (status, text) = answer.unwrap();
                    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {text}");
                    assert!(text.contains("etcdserver: too many requests"), "{text}");
                    refused += 1;
                }
            }
        }
        assert!((5..9).contains(&refused), "{path}: {refused} of 9");
        // A small body always has room.
        let small = format!(r#"{{"x":"{}"}}"#, "v".repeat(9 * KIB));
        let (status, text) = post(router.clone(), path, small.into()).await;
        assert_eq!(status, whole, "{path}: {text}");
        // The room of requests that have ended is free again.
        readers.shutdown().await;
        let large = format!(r#"{{"x":"{}"}}"#, "v".repeat(250 * KIB));
        let (status, text) = post(router.clone(), path, large.into()).await;
        assert_eq!(status, whole, "{path}: {text}");
    }
}
