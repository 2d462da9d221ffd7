//! The watchers: `Watch` calls, read frame by frame. Only a part of the messages is decoded, since
//! the load shares the machine with the servers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;
use tonic::body::Body;
use tower::Service;

use super::puts::key;
use crate::cluster::wire::Wire;
use crate::histogram::Histogram;

/// One message in so many is decoded for its time.
const SAMPLED: u64 = 16;

/// What all streams have received.
#[derive(Debug)]
pub struct Received {
    /// Watches that have begun.
    pub created: AtomicU64,
    /// Messages with events.
    pub events: AtomicU64,
    /// The latencies of the decoded ones.
    pub latencies: Mutex<Histogram>,
    /// The origin of the times in the values.
    pub origin: Instant,
}

impl Received {
    /// Nothing yet.
    pub fn new(origin: Instant) -> Arc<Received> {
        Arc::new(Received {
            created: AtomicU64::new(0),
            events: AtomicU64::new(0),
            latencies: Mutex::default(),
            origin,
        })
    }
}

fn frame(message: &WatchRequest) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}

/// Opens a stream with a watcher for each of the numbers, and reads it until it ends.
///
/// # Errors
/// The server ends it, or sends something else.
pub async fn watch(
    mut wire: Wire,
    url: String,
    numbers: Vec<usize>,
    received: Arc<Received>,
) -> Result<()> {
    let requests: Vec<_> = numbers.into_iter().map(create).collect();
    let requests = stream::iter(requests);
    // The body ends with this future: hyper keeps the connection of an unfinished one.
    let (_unfinished, finished) = oneshot::channel::<Infallible>();
    let end = stream::once(finished).filter_map(|_| future::ready(None));
    let frames = requests.chain(end);
    let body = Body::new(StreamBody::new(frames));
    let request = http::Request::post(format!("{url}/etcdserverpb.Watch/Watch"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let response = wire.call(request).await?;
    ensure!(response.status() == 200, "HTTP {}", response.status());
    read(response.into_body(), &received).await
}

fn create(number: usize) -> Result<Frame<Bytes>, Infallible> {
    let create = WatchCreateRequest {
        key: key(number),
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    Ok(Frame::data(frame(&request)))
}

async fn read(mut body: Incoming, received: &Received) -> Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(trailers) = frame.trailers_ref() {
            bail!("the stream ended: {trailers:?}");
        }
        if let Ok(data) = frame.into_data() {
            buffer.extend_from_slice(&data);
        }
        while let Some(message) = next(&mut buffer) {
            take(message, received)?;
        }
    }
    bail!("the stream ended")
}

fn next(buffer: &mut BytesMut) -> Option<BytesMut> {
    let len = u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?) as usize;
    if buffer.len() < 5 + len {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(len))
}

fn take(message: BytesMut, received: &Received) -> Result<()> {
    // Without `created` only messages with events follow here: field 11.
    let events = received.events.load(Ordering::Relaxed);
    let is_sampled = events.is_multiple_of(SAMPLED) || events == 0;
    let is_small = message.len() < 60;
    if !is_sampled && !is_small {
        received.events.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let response = WatchResponse::decode(message)?;
    ensure!(!response.canceled, "a watch was cancelled: {response:?}");
    if response.created {
        received.created.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    received
        .events
        .fetch_add(response.events.len() as u64, Ordering::Relaxed);
    let now = received.origin.elapsed();
    let mut latencies = received.latencies.lock();
    for event in response.events {
        let kv = event.kv.context("an event without a pair")?;
        let sent = kv.value.first_chunk().context("a short value")?;
        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
        latencies.record(now.saturating_sub(sent));
    }
    Ok(())
}
