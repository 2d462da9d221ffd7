//! `--max-concurrent-streams`: what a client is sent, and what becomes of a stream beyond it.

use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Port, within};
use crate::Limits;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113, 6.5.2.
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
/// RFC 9113, 7.
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A connection that writes frames and reads them.
struct Raw(TcpStream);

impl Raw {
    async fn connect(port: &Port) -> Raw {
        let mut raw = Raw(port.connect().await);
        raw.0.write_all(PREFACE).await.unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).await.unwrap();
    }

    /// The payload of the next frame of that type and stream; others are passed over.
    async fn next(&mut self, kind: u8, stream: u32) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            within(self.0.read_exact(&mut head)).await.unwrap();
            let [a, b, c, of, _, id @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            within(self.0.read_exact(&mut payload)).await.unwrap();
            if of == kind && id == stream.to_be_bytes() {
                return payload;
            }
        }
    }

    /// Begins a call of `KV.Put`, whose message is still to come.
    async fn begin(&mut self, stream: u32) {
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (&[0x01][..], "x"),
            (&[0x04], "/etcdserverpb.KV/Put"),
            (&[0x0f, 0x10], "application/grpc"),
            (&[0x00, 2, b't', b'e'], "trailers"),
        ] {
            block.extend_from_slice(name);
            block.push(u8::try_from(value.len()).unwrap());
            block.extend_from_slice(value.as_bytes());
        }
        self.send(HEADERS, END_HEADERS, stream, &block).await;
    }
}

async fn limited() -> Port {
    Port::with(Limits::default().with_streams(2)).await
}

#[tokio::test]
async fn the_number_of_streams_is_sent_and_one_beyond_it_is_refused() {
    let port = limited().await;
    let mut raw = Raw::connect(&port).await;
    let settings = raw.next(SETTINGS, 0).await;
    let mut settings = settings.chunks(6);
    let sent = settings.find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS);
    assert_eq!(sent.map(|setting| &setting[2..]), Some(&[0, 0, 0, 2][..]));
    for stream in [1, 3, 5] {
        raw.begin(stream).await;
    }
    assert_eq!(raw.next(RST_STREAM, 5).await, REFUSED_STREAM);
    // The refusal is of the stream alone, and ends with another one.
    raw.send(RST_STREAM, 0, 1, &CANCEL).await;
    raw.begin(7).await;
    for stream in [3, 7] {
        let message = [0, 0, 0, 0, 3, 0x0a, 1, b'a'];
        raw.send(DATA, END_STREAM, stream, &message).await;
        raw.next(HEADERS, stream).await;
    }
}

/// A client that keeps to the number has its further calls wait.
#[tokio::test]
async fn further_calls_of_one_channel_wait_and_are_answered() {
    let port = limited().await;
    let mut kv = port.kv().await;
    // Before the number has come, a client may begin more.
    let first = RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    };
    kv.range(first).await.expect("an answer");
    port.fake.hold(true);
    let put = |_| {
        let mut kv = kv.clone();
        let put = PutRequest {
            key: "a".into(),
            ..PutRequest::default()
        };
        tokio::spawn(async move { kv.put(put).await })
    };
    let puts: Vec<_> = (0..6).map(put).collect();
    within(port.fake.held(2)).await;
    port.fake.hold(false);
    for put in puts {
        within(put).await.unwrap().expect("it waited");
    }
}
