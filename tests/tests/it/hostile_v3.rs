//! Watches that burden the running server: it bounds what they take, and its memory returns once
//! they are gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::usage::memory;
use keelson_tests::proc::{binary, client};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Watches of one stream.
const WATCHES: usize = 10_000;
/// Streams that are not read, half of them with the pairs before, and the events that each of them
/// is to be sent.
const UNREAD: usize = 50;
const EVENTS: usize = 500;
const VALUE_BYTES: usize = 4_000;

/// The server's anonymous memory afterwards, in bytes above what it was.
const LEFT: u64 = 16 << 20;
/// Its growth meanwhile, in bytes: 128 MiB of answers that are not read and 64 MiB of revisions
/// (docs/limits.md). All that the streams are to be sent would be 1 GB.
const GROWTH: u64 = 192 << 20;

fn create(
    key: String,
    range_end: &'static str,
    start_revision: i64,
    prev_kv: bool,
) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            prev_kv,
            ..WatchCreateRequest::default()
        })),
    }
}

/// A stream, on a connection of its own. The connection ends with both directions.
struct Stream {
    responses: Streaming<WatchResponse>,
    _requests: mpsc::Sender<WatchRequest>,
}

impl Stream {
    async fn with(url: &str, watches: Vec<WatchRequest>) -> Result<Stream> {
        let (more, rest) = mpsc::channel(1);
        let requests = tokio_stream::iter(watches).chain(ReceiverStream::new(rest));
        let mut client = WatchClient::connect(url.to_owned()).await?;
        Ok(Stream {
            responses: client.watch(requests).await?.into_inner(),
            _requests: more,
        })
    }

    async fn next(&mut self) -> Result<WatchResponse> {
        let response = tokio::time::timeout(LIMIT, self.responses.message()).await??;
        response.context("the stream goes on")
    }
}

async fn put(kv: &mut KvClient<Channel>, key: String, value: Vec<u8>) -> Result<()> {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    kv.put(put).await?;
    Ok(())
}

/// Ten thousand watches on one stream, each of which is sent an event. Half of them watch one key.
async fn crowded(url: &str) -> Result<Stream> {
    let key = |number: usize| match number % 2 {
        0 => "one".to_owned(),
        _ => format!("each/{number}"),
    };
    let watches = (0..WATCHES).map(|number| create(key(number), "", 0, false));
    let mut stream = Stream::with(url, watches.collect()).await?;
    for _ in 0..WATCHES {
        let created = stream.next().await?;
        ensure!(created.created && !created.canceled, "{created:?}");
    }
    let mut kv = client::kv(url).await?;
    put(&mut kv, "one".to_owned(), vec![b'x']).await?;
    put(&mut kv, format!("each/{}", WATCHES - 1), vec![b'x']).await?;
    for _ in 0..=WATCHES / 2 {
        let events = stream.next().await?;
        ensure!(events.events.len() == 1, "{events:?}");
    }
    Ok(stream)
}

/// Streams of all events from the first on, which are never read.
async fn unread(url: &str) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for number in 0..UNREAD {
        let prev_kv = number % 2 == 0;
        let all = (0..10).map(|_| create("h/".to_owned(), "h0", 1, prev_kv));
        streams.push(Stream::with(url, all.collect()).await?);
    }
    Ok(streams)
}

#[tokio::test]
async fn memory_returns_after_ten_thousand_watches_and_streams_that_are_not_read() -> Result<()> {
    let mut cluster = Cluster::start(&Plan::new(&binary::ours()?, 1)).await?;
    let url = cluster.members[0].client_url.clone();
    let mut kv = client::kv(&url).await?;
    for number in 0..EVENTS {
        // Half of them replace a pair.
        let key = format!("h/{}", number % (EVENTS / 2));
        put(&mut kv, key, vec![b'v'; VALUE_BYTES]).await?;
    }
    let pid = cluster.members[0].pid().context("it runs")?;
    let before = memory(pid)?.anonymous;
    let mut peak = before;
    for _ in 0..2 {
        let crowded = crowded(&url).await?;
        let unread = unread(&url).await?;
        put(&mut kv, "alive".to_owned(), vec![b'x']).await?;
        peak = peak.max(memory(pid)?.anonymous);
        drop((crowded, unread));
    }
    println!("{before} bytes before, {peak} at the peak");
    ensure!(peak < before + GROWTH, "{before} bytes grew to {peak}");
    let begin = Instant::now();
    loop {
        let now = memory(pid)?.anonymous;
        if now < before + LEFT {
            println!("{now} bytes after {:?}", begin.elapsed());
            break;
        }
        ensure!(begin.elapsed() < LIMIT, "{before} bytes before, {now} now");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.members[0].alive()
}
