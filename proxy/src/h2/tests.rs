//! A client's connection, whatever the client says.

mod answers;
mod anything;
mod bounds;
mod endings;
mod requests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use keelson_port::{Http2Connection, Limits, hpack};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::client;
use super::frame::{self, Event, Frames, PREFACE};
use crate::config::{MembersFrom, ProxyConfig};
use crate::context::Context;

/// One that knows no member, and does not wait for one.
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

/// What a client that says this and hangs up is told.
async fn told(sent: &[u8]) -> Vec<u8> {
    // Refusals come from tasks of their own.
    told_in(Duration::from_millis(20), sent).await
}

/// The same, of a client that hangs up after so long.
async fn told_in(time: Duration, sent: &[u8]) -> Vec<u8> {
    told_by_in(proxy(), time, sent).await
}

/// The same by a certain proxy.
async fn told_by(proxy: Arc<Context>, sent: &[u8]) -> Vec<u8> {
    told_by_in(proxy, Duration::from_millis(20), sent).await
}

async fn told_by_in(proxy: Arc<Context>, time: Duration, sent: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(8 << 20);
    let serving = serve(proxy, server);
    let talking = async {
        client.write_all(sent).await?;
        tokio::time::sleep(time).await;
        client.shutdown().await?;
        let mut told = vec![];
        client.read_to_end(&mut told).await?;
        io::Result::Ok(told)
    };
    let ((), told) = tokio::join!(serving, talking);
    told.unwrap()
}

/// The same, as far as streams are concerned: which ended how.
async fn ends(sent: &[u8]) -> Vec<String> {
    ends_of(&told(sent).await)
}

fn ends_of(told: &[u8]) -> Vec<String> {
    let mut ends = vec![];
    let heard = Frames::default().take(told, |event| {
        match event {
            Event::Headers { stream, end, .. } => ends.push(format!("fields {stream} {end}")),
            Event::Reset { stream, code } => ends.push(format!("reset {stream} {}", code.0)),
            Event::GoAway { code, .. } => ends.push(format!("goodbye {}", code.0)),
            _ => {}
        }
        Ok(())
    });
    heard.unwrap();
    ends
}

/// One whose members are away, and whose patience is long.
fn waiting_proxy() -> Arc<Context> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::from_secs(3600);
    Arc::new(Context::new(config, vec![]))
}

/// Says all that to a proxy, and calls `then` while the connection is still there.
async fn while_open(proxy: &Arc<Context>, sent: &[u8], then: impl FnOnce(&[u8])) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(Arc::clone(proxy), server));
    let (mut read, mut write) = tokio::io::split(client);
    let listening = tokio::spawn(async move {
        let mut told = vec![];
        // Until the last word that the test waits for.
        while !told.windows(8).any(|eight| eight == b"the last") {
            if read.read_buf(&mut told).await.unwrap_or(0) == 0 {
                break;
            }
        }
        (read, told)
    });
    write.write_all(sent).await.unwrap();
    let mut last = BytesMut::new();
    frame::put_ping(&mut last, *b"the last", false);
    write.write_all(&last).await.unwrap();
    let (read, told) = listening.await.unwrap();
    then(&told);
    drop((read, write));
    serving.await.unwrap();
}

fn has(told: &[u8], text: &str) -> bool {
    told.windows(text.len()).any(|part| part == text.as_bytes())
}
