//! RFC 9113, case by case: at a proxy, whose HTTP/2 is its own, and at a port where hyper's serves,
//! as at members.

mod frames;
mod messages;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use keelson_port::hpack::Decoder;
use keelson_port::{Incoming, Limits, Serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time;

use self::frames::of_frames;
use self::messages::{of_messages, of_proxies};
use crate::support::{Fake, Running, answer, frame};

const PATIENCE: Duration = Duration::from_secs(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// `END_STREAM`, which is also `ACK`.
const END: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WHOLE: u8 = END | END_HEADERS;

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The request on this stream is answered with 200.
    Served(u32),
    /// The stream is reset or refused, or the connection ends: a stream error may be treated as
    /// worse.
    Refused(u32),
    /// The connection ends.
    Ends,
}

use Outcome::{Ends, Refused, Served};

struct Case {
    /// Of RFC 9113.
    section: &'static str,
    what: &'static str,
    /// After the preface and settings.
    sent: Vec<u8>,
    outcome: Outcome,
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

const METHOD: (&str, &str) = (":method", "PUT");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/v2/keys/a");
const AUTHORITY: (&str, &str) = (":authority", "localhost");

/// The fields of a request, and more.
fn fields(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&[METHOD, SCHEME, PATH, AUTHORITY], more].concat())
}

/// A request on stream 1 without a body, and with these fields besides.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &fields(more))
}

/// One with no other fields than these.
fn only(all: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(all))
}

/// The beginning of a request on a stream.
fn begun(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(more))
}

fn setting(number: u16, value: u32) -> Vec<u8> {
    frame(
        SETTINGS,
        0,
        0,
        &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat(),
    )
}

fn case(section: &'static str, what: &'static str, sent: Vec<u8>, outcome: Outcome) -> Case {
    Case {
        section,
        what,
        sent,
        outcome,
    }
}

/// What a server makes of it.
async fn outcome(server: SocketAddr, sent: &[u8], expected: Outcome) -> Option<Outcome> {
    let mut socket = TcpStream::connect(server).await.unwrap();
    // A server that has enough may close while this is written.
    let _ = socket.write_all(sent).await;
    let stream = match expected {
        Served(stream) | Refused(stream) => stream,
        Ends => 0,
    };
    let mut told = vec![];
    let mut decoder = Decoder::new(4096);
    loop {
        while let Some((kind, of, payload)) = next(&mut told) {
            match kind {
                RST_STREAM if of == stream => return Some(Refused(stream)),
                GOAWAY => return Some(Ends),
                HEADERS if of == stream => {
                    let mut status = vec![];
                    let each = |name: &[u8], value: &[u8], _| {
                        if name == b":status" {
                            status = value.to_vec();
                        }
                    };
                    decoder.decode(&payload, 1 << 16, each).unwrap();
                    return Some(if status == b"200" {
                        Served(stream)
                    } else {
                        Refused(stream)
                    });
                }
                _ => {}
            }
        }
        match time::timeout(PATIENCE, socket.read_buf(&mut told))
            .await
            .ok()?
        {
            Ok(0) | Err(_) => return Some(Ends),
            Ok(_) => {}
        }
    }
}

/// The next frame: its kind, its stream, its payload.
fn next(told: &mut Vec<u8>) -> Option<(u8, u32, Vec<u8>)> {
    let head = told.first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, stream) = (
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
    );
    if told.len() < 9 + length {
        return None;
    }
    let payload = told[9..9 + length].to_vec();
    told.drain(..9 + length);
    Some((kind, stream, payload))
}

async fn check(server: SocketAddr, who: &'static str, cases: Vec<Case>) {
    let mut differences = vec![];
    let mut running = JoinSet::new();
    for case in cases {
        running.spawn(async move {
            let begin = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                &frame(SETTINGS, 0, 0, &[])[..],
            ];
            let sent = [&begin.concat()[..], &case.sent].concat();
            let found = outcome(server, &sent, case.outcome).await;
            let accepted = match case.outcome {
                // A stream error may be treated as worse.
                Refused(_) => found == Some(case.outcome) || found == Some(Ends),
                _ => found == Some(case.outcome),
            };
            let what = format!("{} {}: {found:?}", case.section, case.what);
            (!accepted).then_some(what)
        });
    }
    while let Some(difference) = running.join_next().await {
        differences.extend(difference.unwrap());
    }
    differences.sort();
    assert!(differences.is_empty(), "{who}: {differences:#?}");
}

/// A connection begins with the preface and settings: RFC 9113, 3.4.
async fn check_beginnings(server: SocketAddr) {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for first in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, END, 0, &[]),
        with(&[]),
    ] {
        let sent = [&preface[..], &first].concat();
        assert_eq!(outcome(server, &sent, Ends).await, Some(Ends), "{first:?}");
    }
    let sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r";
    assert_eq!(outcome(server, sent, Ends).await, Some(Ends));
}

#[tokio::test]
async fn a_proxy_keeps_to_rfc_9113() {
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let proxy = Running::before(&[&member]).await;
    check_beginnings(proxy.address).await;
    let cases = [of_frames(), of_messages(), of_proxies()];
    check(
        proxy.address,
        "proxy",
        cases.into_iter().flatten().collect(),
    )
    .await;
    proxy.stop().await;
}

/// Answers once the whole request has come.
struct Whole;

impl Serve for Whole {
    type Body = Full<Bytes>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(async move {
            let whole = request.into_body().collect().await.is_ok();
            let status = if whole { 200 } else { 400 };
            let response = Response::builder().status(status);
            Ok(response.body(Full::new(Bytes::from_static(b"x"))).unwrap())
        })
    }
}

#[tokio::test]
async fn a_port_where_hyper_serves_keeps_to_rfc_9113() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let never = std::future::pending();
    let serving = keelson_port::serve(vec![listener], Whole, Limits::default(), never);
    let serving = tokio::spawn(serving);
    check_beginnings(address).await;
    let cases = [of_frames(), of_messages()];
    check(address, "port", cases.into_iter().flatten().collect()).await;
    serving.abort();
}
