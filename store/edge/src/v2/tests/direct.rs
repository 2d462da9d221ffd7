//! The API without a router or a socket, called as by the port.

use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Full};
use keelson_port::Drain;

use crate::CallMetrics;
use crate::tests::fake::Fake;
use crate::v2::V2;

fn v2() -> V2<Fake> {
    let (_, drain) = Drain::channel();
    V2::new(
        Fake::new(([127, 0, 0, 1], 0).into()),
        &drain,
        CallMetrics::default(),
    )
}

fn request(method: Method, target: &str) -> Request<Empty<bytes::Bytes>> {
    let request = Request::builder().method(method).uri(target);
    request.body(Empty::new()).unwrap()
}

#[test]
fn the_api_owns_its_paths() {
    for (path, owned) in [
        ("/v2", true),
        ("/v2/", true),
        ("/v2/keys/foo", true),
        ("/v2//keys", true),
        ("/config/local/log", true),
        ("/v2x", false),
        ("/v3/kv/range", false),
        ("/", false),
    ] {
        assert_eq!(V2::<Fake>::owns(path), owned, "{path}");
    }
}

#[tokio::test]
async fn plain_reads_are_answered_at_once() {
    let v2 = v2();
    for (method, target, at_once) in [
        (Method::GET, "/v2/keys", true),
        (
            Method::GET,
            "/v2/keys/foo?recursive=true&sorted=true&quorum=false",
            true,
        ),
        (Method::HEAD, "/v2/keys/foo?quorum=true", true),
        (Method::GET, "/v2/keys/foo?recursive=maybe", true),
        (Method::GET, "/v2/keys/foo?wait=true", false),
        (Method::GET, "/v2/keys/foo?quorum=true", false),
        (Method::GET, "/v2/keys/f%6fo", false),
        (Method::GET, "/v2/keys//foo", false),
        (Method::GET, "/v2/keysfoo", false),
        (Method::PUT, "/v2/keys/foo", false),
        (Method::GET, "/v2/members", false),
    ] {
        let answer = v2.answer_now(&request(method.clone(), target));
        assert_eq!(answer.is_some(), at_once, "{method} {target}");
    }
}

#[tokio::test]
async fn a_read_that_was_parsed_is_not_parsed_again() {
    let v2 = v2();
    for target in ["/v2/keys?quorum=true", "/v2/keys?wait=true&recursive=true"] {
        let parameters = v2.try_now(&request(Method::GET, target));
        assert!(
            parameters.expect_err("it has to wait").is_some(),
            "{target}"
        );
    }
    let quorum = request(Method::GET, "/v2/keys?quorum=true");
    let parameters = v2.try_now(&quorum).expect_err("it needs the quorum");
    // A second parse would refuse it.
    let invalid = request(Method::GET, "/v2/keys?quorum=maybe");
    assert_eq!(v2.answer_later(invalid, parameters).await.status(), 200);
}

#[tokio::test]
async fn every_answer_lets_pages_of_any_origin_in() {
    let v2 = v2();
    for (method, target, status) in [
        (Method::OPTIONS, "/v2/keys/foo", 200),
        (Method::GET, "/v2/keys", 200),
        (Method::GET, "/v2/nothing", 404),
        (Method::GET, "/v2/keys//foo", 301),
        (Method::PATCH, "/v2/keys/foo", 405),
    ] {
        let answer = v2.answer(request(method, target)).await;
        assert_eq!(answer.status(), status, "{target}");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    }
}

#[tokio::test]
async fn a_body_may_be_of_any_kind() {
    let put = Request::put("/v2/keys/foo")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::<bytes::Bytes>::from("value=bar"))
        .unwrap();
    let answer = v2().answer(put).await;
    assert_eq!(answer.status(), 201);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(br#"{"action":"set","node":{"key":"/foo","value":"bar""#));
}

/// It was answered as a wrong password is: 401, after which no client tries again.
#[tokio::test]
async fn a_login_too_many_is_not_refused_as_a_wrong_password() {
    let v2 = v2();
    let put = |target: &str, body: &'static str| {
        let put = Request::put(target).body(Full::<bytes::Bytes>::from(body));
        v2.answer(put.unwrap())
    };
    let root = r#"{"user":"root","password":"pw"}"#;
    assert_eq!(put("/v2/auth/users/root", root).await.status(), 201);
    assert_eq!(put("/v2/auth/enable", "").await.status(), 200);
    let crowded = v2.crowded();
    for (method, target, status) in [
        (Method::GET, "/v2/keys/a", 500),
        (Method::GET, "/v2/auth/users", 503),
        (Method::DELETE, "/v2/members/1", 503),
    ] {
        let mut request = request(method, target);
        let basic = http::HeaderValue::from_static("Basic cm9vdDpwdw==");
        request.headers_mut().insert("authorization", basic);
        let answer = crowded.answer(request).await;
        assert_eq!(answer.status(), status, "{target}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(
            body.contains("etcdserver: too many requests"),
            "{target}: {body}"
        );
    }
}
