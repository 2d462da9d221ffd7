//! An HTTP/2 client that does not read its answers.

use std::future::Ready;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::time;

use crate::connection::{self, Port};
use crate::{Incoming, Limits, Serve};

/// Answers at once.
struct Done;

impl Serve for Done {
    type Body = Full<Bytes>;
    type Future = Ready<Result<Response<Full<Bytes>>, std::convert::Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        std::future::ready(Ok(Response::new(Full::new(Bytes::from("done")))))
    }
}

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A GET on a stream that h2 resets: HTTP/2 has no such field.
fn malformed(stream: u32) -> Vec<u8> {
    let block = b"\x82\x86\x84\x00\x0aconnection\x01x";
    let head = [0, 0, block.len() as u8, 1, 5];
    [&head[..], &stream.to_be_bytes(), block].concat()
}

/// The same, answered in full.
fn fine(stream: u32) -> Vec<u8> {
    let head = [0, 0, 3, 1, 5];
    [&head[..], &stream.to_be_bytes(), b"\x82\x86\x84"].concat()
}

/// How many such requests a client can send that reads nothing; 100,000 are enough.
async fn taken(request: fn(u32) -> Vec<u8>) -> u32 {
    let (mut client, server) = tokio::io::duplex(4096);
    let port = Port::new(Done, Limits::default());
    let mut never = pin!(std::future::pending());
    let address = ([127, 0, 0, 1], 1).into();
    let mut serving = pin!(connection::serve_h2(
        server,
        (address, false),
        &port,
        never.as_mut()
    ));
    let mut count = 0;
    let talking = async {
        client.write_all(BEGIN).await.unwrap();
        while count < 100_000 && client.write_all(&request(2 * count + 1)).await.is_ok() {
            count += 1;
        }
    };
    let both = async {
        tokio::select! { () = talking => {}, _ = &mut serving => {} }
    };
    // It may as well be that nothing more is read.
    let _ = time::timeout(Duration::from_secs(600), both).await;
    count
}

/// RUSTSEC-2024-0003: each is answered with a reset, which is kept until the client reads.
#[tokio::test(start_paused = true)]
async fn resets_that_are_not_read_are_not_kept_without_end() {
    for request in [malformed, fine] {
        let count = taken(request).await;
        assert!(count < 25_000, "{count}");
    }
}
