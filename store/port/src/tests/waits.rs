//! Waits for a client of HTTP/2 have an end. In memory, so that the clock can be paused.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{self, Instant};

use crate::connection::{self, Port};
use crate::{Incoming, Limits, Serve};

/// Answers once the body has come, or should have.
struct Whole;

impl Serve for Whole {
    type Body = Full<Bytes>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let body = request.into_body().within(Duration::from_secs(60));
        Box::pin(async move {
            let text = match body.collect().await {
                Ok(_) => "whole".to_owned(),
                Err(error) => error.to_string(),
            };
            Ok(Response::new(Full::new(text.into())))
        })
    }
}

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A PUT on stream 1 whose body is still to come.
const PUT: &[u8] = b"\0\0\x0a\x01\x04\0\0\0\x01\x02\x03PUT\x86\x84\x41\x01x";

/// The bytes that a client receives after it has sent `sent`, and the seconds until the connection
/// ends.
async fn told(sent: &[u8], until: impl Fn(&[u8]) -> bool) -> (Vec<u8>, u64) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let port = Port::new(Whole, Limits::default());
    let mut never = pin!(std::future::pending());
    let address = ([127, 0, 0, 1], 1).into();
    let serving = connection::serve_h2(server, (address, false), &port, never.as_mut());
    let talking = async {
        client.write_all(sent).await.unwrap();
        let began = Instant::now();
        let mut told = vec![];
        while !until(&told) && client.read_buf(&mut told).await.unwrap_or(0) != 0 {}
        (told, began.elapsed().as_secs())
    };
    let both = async {
        tokio::select! { told = talking => told, _ = serving => unreachable!() }
    };
    time::timeout(Duration::from_secs(3600), both)
        .await
        .unwrap()
}

fn has(told: &[u8], text: &str) -> bool {
    told.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Clients respect SETTINGS_MAX_CONCURRENT_STREAMS; without a bound a connection takes gigabytes.
#[tokio::test(start_paused = true)]
async fn a_client_is_told_how_many_streams_it_may_have() {
    let streams = |told: &[u8]| told.windows(6).any(|six| six == [0, 3, 0, 0, 16, 0]);
    let (told, after) = told(BEGIN, streams).await;
    assert!(streams(&told));
    assert_eq!(after, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_has_to_come_whole_is_not_waited_for_for_ever() {
    let late = "the rest of the body did not come in time";
    let sent = [BEGIN, PUT, b"\0\0\x01\0\0\0\0\0\x01x"].concat();
    let (told, after) = told(&sent, |told| has(told, late)).await;
    assert!(has(&told, late));
    assert_eq!(after, 60);
}
