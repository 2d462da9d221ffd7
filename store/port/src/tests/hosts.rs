//! `--host-whitelist` over HTTP/2.

use std::future::Ready;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

use crate::access::Access;
use crate::connection::{self, Port};
use crate::{Incoming, Limits, Serve};

/// Answers at once.
struct Done;

impl Serve for Done {
    type Body = Full<Bytes>;
    type Future = Ready<Result<Response<Full<Bytes>>, std::convert::Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        std::future::ready(Ok(Response::new(Full::new(Bytes::from("it is done")))))
    }
}

/// The status of a request to a host, from a port that accepts only "good.example".
async fn told(host: &str, content_type: Option<&str>, secure: bool) -> String {
    let access = Access::new(vec![], vec!["good.example".to_owned()]);
    let limits = Limits {
        access,
        ..Limits::default()
    };
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let port = Port::new(Done, limits);
    let mut never = pin!(std::future::pending());
    let address = ([127, 0, 0, 1], 1).into();
    let serving = connection::serve_h2(server, (address, secure), &port, never.as_mut());
    let mut block = b"\x82\x86\x84\x41".to_vec();
    block.push(host.len() as u8);
    block.extend(host.as_bytes());
    if let Some(content_type) = content_type {
        block.extend(b"\x0f\x10");
        block.push(content_type.len() as u8);
        block.extend(content_type.as_bytes());
    }
    let head = [0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1];
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let talking = async {
        let sent = [&begin[..], &head, &block].concat();
        client.write_all(&sent).await.unwrap();
        let mut told = vec![];
        let over = |told: &[u8]| {
            let text = String::from_utf8_lossy(told);
            text.contains("it is done") || text.contains("CVE-2018-5702")
        };
        while !over(&told) && client.read_buf(&mut told).await.unwrap_or(0) != 0 {}
        String::from_utf8_lossy(&told).into_owned()
    };
    let both = async {
        tokio::select! { told = talking => told, _ = serving => unreachable!() }
    };
    time::timeout(Duration::from_secs(20), both).await.unwrap()
}

/// As in etcd, calls are exempt, and over TLS the name is proven.
#[tokio::test]
async fn a_request_over_http_2_to_another_host_is_refused() {
    for (host, content_type, secure, taken) in [
        ("good.example:2379", None, false, true),
        ("evil.example:2379", None, false, false),
        ("evil.example", Some("application/json"), false, false),
        ("evil.example", Some("application/grpc"), false, true),
        ("evil.example", None, true, true),
    ] {
        let told = told(host, content_type, secure).await;
        let case = format!("{host} {content_type:?} {secure}");
        assert_eq!(told.contains("it is done"), taken, "{case}");
        assert_eq!(
            told.contains("--host-whitelist \"evil.example\""),
            !taken,
            "{case}"
        );
    }
}
