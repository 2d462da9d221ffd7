//! RFC 9113 and RFC 7541, case by case: at a proxy, which uses the port's own HTTP/2, and at a port
//! that is served by hyper, as members are. Each case runs without TLS and over it.

mod field_sections;
mod frame_types;
mod frames;
mod framing;
mod hpack;
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
use keelson_port::{ClientTls, Incoming, Limits, Listener, Protocol, Serve, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time;

use self::field_sections::of_field_sections;
use self::frame_types::of_frame_types;
use self::frames::of_frames;
use self::framing::of_framing;
use self::hpack::of_hpack;
use self::messages::{of_messages, of_proxies};
use crate::support::{Fake, Running, answer, config, frame};
use crate::tls::{Certificates, connect};

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

/// The outcome that the RFC requires.
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

#[derive(Clone)]
struct Case {
    /// Of RFC 9113, or of RFC 7541.
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

/// A server that accepts HTTP without TLS and over it.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    tls: ClientTls,
}

impl Server {
    async fn connect(&self, secure: bool) -> Box<dyn Wire> {
        match secure {
            true => Box::new(connect(self.address, &self.tls, Protocol::Http2).await),
            false => Box::new(TcpStream::connect(self.address).await.unwrap()),
        }
    }
}

/// The outcome of these bytes.
async fn outcome(mut socket: Box<dyn Wire>, sent: &[u8], expected: Outcome) -> Option<Outcome> {
    // A server that has enough may close while this is written.
    let _ = socket.write_all(sent).await;
    let stream = match expected {
        Served(stream) | Refused(stream) => stream,
        Ends => 0,
    };
    let mut received = vec![];
    let mut decoder = Decoder::new(4096);
    loop {
        while let Some((kind, of, payload)) = next(&mut received) {
            match kind {
                RST_STREAM if of == stream => return Some(Refused(stream)),
                GOAWAY => return Some(Ends),
                HEADERS => {
                    let mut status = vec![];
                    let each = |name: &[u8], value: &[u8], _| {
                        if name == b":status" {
                            status = value.to_vec();
                        }
                    };
                    // Those of other streams as well, as they change the table.
                    decoder.decode(&payload, 1 << 16, each).unwrap();
                    match (of == stream, status == b"200") {
                        (true, true) => return Some(Served(stream)),
                        (true, false) => return Some(Refused(stream)),
                        (false, _) => {}
                    }
                }
                _ => {}
            }
        }
        match time::timeout(PATIENCE, socket.read_buf(&mut received))
            .await
            .ok()?
        {
            Ok(0) | Err(_) => return Some(Ends),
            Ok(_) => {}
        }
    }
}

/// The next frame: its kind, its stream, its payload.
fn next(received: &mut Vec<u8>) -> Option<(u8, u32, Vec<u8>)> {
    let head = received.first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, stream) = (
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
    );
    if received.len() < 9 + length {
        return None;
    }
    let payload = received[9..9 + length].to_vec();
    received.drain(..9 + length);
    Some((kind, stream, payload))
}

/// Runs cases, each without TLS and over it.
async fn check(server: &Server, name: &'static str, cases: Vec<Case>) {
    let mut differences = vec![];
    let mut running = JoinSet::new();
    for (case, secure) in cases
        .into_iter()
        .flat_map(|case| [(case.clone(), false), (case, true)])
    {
        let server = server.clone();
        running.spawn(async move {
            let begin = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                &frame(SETTINGS, 0, 0, &[])[..],
            ];
            let sent = [&begin.concat()[..], &case.sent].concat();
            let found = outcome(server.connect(secure).await, &sent, case.outcome).await;
            let accepted = match case.outcome {
                // A stream error may be treated as worse.
                Refused(_) => found == Some(case.outcome) || found == Some(Ends),
                _ => found == Some(case.outcome),
            };
            let what = format!("{} {}, TLS {secure}: {found:?}", case.section, case.what);
            (!accepted).then_some(what)
        });
    }
    while let Some(difference) = running.join_next().await {
        differences.extend(difference.unwrap());
    }
    differences.sort();
    assert!(differences.is_empty(), "{name}: {differences:#?}");
}

/// A connection begins with the preface and SETTINGS: RFC 9113, 3.4.
async fn check_beginnings(server: &Server) {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut beginnings = vec![b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r".to_vec()];
    for first in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, END, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(GOAWAY, 0, 0, &[0; 8]),
        with(&[]),
    ] {
        beginnings.push([&preface[..], &first].concat());
    }
    for (sent, secure) in beginnings
        .iter()
        .flat_map(|sent| [(sent, false), (sent, true)])
    {
        let found = outcome(server.connect(secure).await, sent, Ends).await;
        assert_eq!(found, Some(Ends), "{sent:?}, TLS {secure}");
    }
}

async fn listener(certificates: &Certificates) -> (Server, Listener) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: socket.local_addr().unwrap(),
        tls: certificates.client(false),
    };
    let mut listener = Listener::new(socket, Some(certificates.server(false)));
    listener.both = true;
    (server, listener)
}

#[tokio::test]
async fn a_proxy_keeps_to_rfc_9113() {
    let certificates = Certificates::new();
    let member = Fake::start(|_| answer("200 OK", "x")).await;
    let (server, listener) = listener(&certificates).await;
    let proxy = Running::start_at(server.address, listener, config(&[&member]));
    let proxy = proxy.knows(1).await;
    check_beginnings(&server).await;
    let cases = of_any_server().chain(of_proxies()).collect();
    check(&server, "proxy", cases).await;
    proxy.stop().await;
}

/// What every server must keep to.
fn of_any_server() -> impl Iterator<Item = Case> {
    let cases = [
        of_frames(),
        of_framing(),
        of_frame_types(),
        of_hpack(),
        of_messages(),
        of_field_sections(),
    ];
    cases.into_iter().flatten()
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
    let certificates = Certificates::new();
    let (server, listener) = listener(&certificates).await;
    let never = std::future::pending();
    let serving = keelson_port::serve(vec![listener], Whole, Limits::default(), never);
    let serving = tokio::spawn(serving);
    check_beginnings(&server).await;
    check(&server, "port", of_any_server().collect()).await;
    serving.abort();
}
