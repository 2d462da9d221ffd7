//! The watchers of one server, on one stream, and a record of all that each receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use keelson_proto::mvccpb::Event;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::proc::client;

/// How long an answer may take after the last message of the stream: only a hang takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A response may hold all events since the last compaction.
const RESPONSE_LIMIT: usize = 256 << 20;

/// The id in an answer about the progress of all watchers.
const ALL_WATCHERS: i64 = -1;

/// What one watcher received.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchRecord {
    /// Its id.
    pub id: i64,
    /// The request that created it.
    pub request: WatchCreateRequest,
    /// The store's revision when it was created.
    pub revision: i64,
    /// It begins at the revision of the last compaction.
    pub at_compaction: bool,
    /// Its events, of all responses, since they were last compared.
    pub events: Vec<Event>,
    /// It had events before.
    pub had_events: bool,
    /// How it has ended.
    pub end: Option<WatchEnd>,
}

/// How a watcher has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEnd {
    /// By its client: events under way may be lost.
    Cancelled,
    /// By a compaction.
    Compacted(WatchResponse),
}

impl WatchRecord {
    /// Whether it reads the history first: from there on, or from a revision that is compacted.
    pub fn is_historical(&self) -> bool {
        self.request.start_revision != 0 && self.request.start_revision <= self.revision
    }
}

#[derive(Debug, Default)]
struct Received {
    /// Of the watcher that is being created.
    request: WatchCreateRequest,
    /// The revision of the last compaction.
    compacted: i64,
    records: Vec<WatchRecord>,
    /// The positions in `records` of the watchers that have not ended.
    by_id: BTreeMap<i64, usize>,
    /// Answers to the requests of the stream.
    answers: Vec<WatchResponse>,
    /// Why the stream ended.
    failed: Option<Status>,
}

/// The stream of watchers of one server.
#[derive(Debug)]
pub struct WatchRecorder {
    requests: mpsc::Sender<WatchRequest>,
    received: Arc<Mutex<Received>>,
    changed: Arc<Notify>,
    reader: JoinHandle<()>,
}

impl Drop for WatchRecorder {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl WatchRecorder {
    /// Opens the stream; a failure is that of the first request.
    pub fn open(url: &str) -> WatchRecorder {
        let (requests, stream) = mpsc::channel(1);
        let client = WatchClient::new(client::lazy(url));
        let client = client.max_decoding_message_size(RESPONSE_LIMIT);
        let (received, changed) = (Arc::default(), Arc::default());
        let reader = read(client, stream, Arc::clone(&received), Arc::clone(&changed));
        WatchRecorder {
            requests,
            received,
            changed,
            reader: tokio::spawn(reader),
        }
    }

    /// Creates a watcher; returns the answer.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn create(
        &mut self,
        request: WatchCreateRequest,
    ) -> Result<Option<WatchResponse>, Status> {
        lock(&self.received).request = request.clone();
        self.send(RequestUnion::CreateRequest(request)).await
    }

    /// Cancels a watcher; there is no answer if no watcher has that id.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn cancel(&mut self, id: i64) -> Result<Option<WatchResponse>, Status> {
        let exists = lock(&self.received).by_id.contains_key(&id);
        let request = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id });
        match exists {
            true => self.send(request).await,
            false => {
                self.request(request).await?;
                Ok(None)
            }
        }
    }

    /// Requests the progress of all watchers; returns the answer.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn progress(&mut self) -> Result<Option<WatchResponse>, Status> {
        let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
        self.send(request).await
    }

    async fn request(&mut self, union: RequestUnion) -> Result<(), Status> {
        let request = WatchRequest {
            request_union: Some(union),
        };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Status::unknown("the stream has ended"))
    }

    async fn send(&mut self, union: RequestUnion) -> Result<Option<WatchResponse>, Status> {
        self.request(union).await?;
        loop {
            let changed = self.changed.notified();
            {
                let mut received = lock(&self.received);
                if let Some(status) = &received.failed {
                    return Err(status.clone());
                }
                if let Some(answer) = received.answers.pop() {
                    return Ok(Some(answer));
                }
            }
            if timeout(ANSWER_LIMIT, changed).await.is_err() {
                return Err(Status::deadline_exceeded("the stream has no answer"));
            }
        }
    }

    /// The store has been compacted.
    pub fn note_compaction(&self, revision: i64) {
        lock(&self.received).compacted = revision;
    }

    /// Completes when something more has been received since this call.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// What the watchers have received so far, in the order of their creation.
    pub fn with_records<T>(&self, read: impl FnOnce(&[WatchRecord]) -> T) -> T {
        read(&lock(&self.received).records)
    }

    /// Compares what both have received so far, and forgets it if that succeeds: the events, and
    /// the watchers that have ended. What comes later is compared later, on both sides.
    ///
    /// # Errors
    /// That of the comparison.
    pub fn settle<T, E>(
        &self,
        other: &WatchRecorder,
        compare: impl FnOnce(&[WatchRecord], &[WatchRecord]) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut ours, mut theirs) = (lock(&self.received), lock(&other.received));
        let compared = compare(&ours.records, &theirs.records)?;
        ours.forget();
        theirs.forget();
        Ok(compared)
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(
    mut client: WatchClient<Channel>,
    requests: mpsc::Receiver<WatchRequest>,
    received: Arc<Mutex<Received>>,
    changed: Arc<Notify>,
) {
    // etcd answers the call with its first message.
    let call = client.watch(ReceiverStream::new(requests)).await;
    let mut responses = call.map(tonic::Response::into_inner);
    loop {
        let response = match &mut responses {
            Ok(responses) => responses.message().await,
            Err(status) => Err(status.clone()),
        };
        let response = response.and_then(|one| one.ok_or_else(|| Status::unknown("it ended")));
        let failed = response.is_err();
        match response {
            Ok(response) => lock(&received).take(response),
            Err(status) => lock(&received).failed = Some(status),
        }
        changed.notify_waiters();
        if failed {
            return;
        }
    }
}

impl Received {
    fn forget(&mut self) {
        self.records.retain(|record| record.end.is_none());
        for record in &mut self.records {
            record.had_events |= !record.events.is_empty();
            record.events.clear();
        }
        let records = self.records.iter().enumerate();
        self.by_id = records.map(|(at, record)| (record.id, at)).collect();
    }

    fn take(&mut self, response: WatchResponse) {
        if response.created {
            if !response.canceled {
                self.by_id.insert(response.watch_id, self.records.len());
                self.records.push(WatchRecord {
                    id: response.watch_id,
                    at_compaction: 0 < self.compacted
                        && self.request.start_revision == self.compacted,
                    request: self.request.clone(),
                    revision: response.header.as_ref().map_or(0, |header| header.revision),
                    events: Vec::new(),
                    had_events: false,
                    end: None,
                });
            }
            self.answers.push(response);
            return;
        }
        let is_progress = response.events.is_empty() && !response.canceled;
        if is_progress && response.watch_id == ALL_WATCHERS {
            self.answers.push(response);
            return;
        }
        let Some(at) = self.by_id.get(&response.watch_id).copied() else {
            let stray = format!("of no watcher: {response:?}");
            self.failed.get_or_insert(Status::unknown(stray));
            return;
        };
        self.records[at]
            .events
            .extend(response.events.iter().cloned());
        if !response.canceled {
            return;
        }
        self.by_id.remove(&response.watch_id);
        self.records[at].end = Some(match response.compact_revision {
            0 => WatchEnd::Cancelled,
            _ => WatchEnd::Compacted(WatchResponse {
                header: None,
                ..response.clone()
            }),
        });
        if response.compact_revision == 0 {
            self.answers.push(response);
        }
    }
}
