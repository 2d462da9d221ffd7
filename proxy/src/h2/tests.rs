//! A client's connection, with any input.

mod answers;
mod anything;
mod bounds;
mod endings;
mod requests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use keelson_port::http2::Http2Connection;
use keelson_port::http2::frame::{self, Frame, FrameReader, PREFACE};
use keelson_port::{Limits, hpack};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::client;
use crate::config::{MembersFrom, ProxyConfig};
use crate::context::Context;

/// A proxy without members that does not wait for one.
fn proxy() -> Arc<Context> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::ZERO;
    Arc::new(Context::new(config, vec![]))
}

fn settings() -> BytesMut {
    let mut sent = BytesMut::from(&PREFACE[..]);
    frame::put_settings(&mut sent, &[]);
    sent
}

fn call(path: &str, more: &[(&str, &str)]) -> BytesMut {
    let mut block = BytesMut::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "http://nonsense"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in fields.iter().chain(more) {
        hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
    }
    block
}

/// Serves a client's connection until it ends.
async fn serve(proxy: Arc<Context>, socket: DuplexStream) {
    let limits = Limits::default();
    let mut never = std::pin::pin!(std::future::pending());
    let connection = Http2Connection {
        socket: Box::new(socket),
        client: ([127, 0, 0, 1], 1).into(),
        secure: false,
        limits: &limits,
        shutdown: never.as_mut(),
    };
    client::serve(proxy, connection).await;
}

/// The bytes that a client receives which sends `sent` and disconnects.
async fn received(sent: &[u8]) -> Vec<u8> {
    // Refusals come from tasks of their own.
    received_in(Duration::from_millis(20), sent).await
}

/// The same, for a client that disconnects after `time`.
async fn received_in(time: Duration, sent: &[u8]) -> Vec<u8> {
    received_from_in(proxy(), time, sent).await
}

/// The same from a given proxy.
async fn received_from(proxy: Arc<Context>, sent: &[u8]) -> Vec<u8> {
    received_from_in(proxy, Duration::from_millis(20), sent).await
}

async fn received_from_in(proxy: Arc<Context>, time: Duration, sent: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(8 << 20);
    let serving = serve(proxy, server);
    let talking = async {
        client.write_all(sent).await?;
        tokio::time::sleep(time).await;
        client.shutdown().await?;
        let mut received = vec![];
        client.read_to_end(&mut received).await?;
        io::Result::Ok(received)
    };
    let ((), received) = tokio::join!(serving, talking);
    received.unwrap()
}

/// The fields, resets and GOAWAY among them.
async fn ends(sent: &[u8]) -> Vec<String> {
    ends_of(&received(sent).await)
}

fn ends_of(received: &[u8]) -> Vec<String> {
    let mut ends = vec![];
    let heard = FrameReader::default().read(received, |event| {
        match event {
            Frame::Headers { stream, end, .. } => ends.push(format!("fields {stream} {end}")),
            Frame::RstStream { stream, code } => ends.push(format!("reset {stream} {}", code.0)),
            Frame::GoAway { code, .. } => ends.push(format!("goaway {}", code.0)),
            _ => {}
        }
        Ok(())
    });
    heard.unwrap();
    ends
}

/// A proxy without members and with a long timeout.
fn waiting_proxy() -> Arc<Context> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::from_secs(3600);
    Arc::new(Context::new(config, vec![]))
}

/// Sends `sent` to a proxy, and calls `then` with the answer while the connection is open.
async fn while_open(proxy: &Arc<Context>, sent: &[u8], then: impl FnOnce(&[u8])) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(Arc::clone(proxy), server));
    let (mut read, mut write) = tokio::io::split(client);
    let listening = tokio::spawn(async move {
        let mut received = vec![];
        // Up to the acknowledgement of the last PING.
        while !received.windows(8).any(|eight| eight == b"the last") {
            if read.read_buf(&mut received).await.unwrap_or(0) == 0 {
                break;
            }
        }
        (read, received)
    });
    write.write_all(sent).await.unwrap();
    let mut last = BytesMut::new();
    frame::put_ping(&mut last, *b"the last", false);
    write.write_all(&last).await.unwrap();
    let (read, received) = listening.await.unwrap();
    then(&received);
    drop((read, write));
    serving.await.unwrap();
}

fn has(received: &[u8], text: &str) -> bool {
    received
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}
