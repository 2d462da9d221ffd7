//! Carries an operation out and masks the parts of an answer in which two servers always differ.

use std::time::Duration;

use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::response_op::Response as Nested;
use keelson_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse, WatchResponse,
};
use tonic::{Code, Status};

use super::generate::Operation;
use super::token::{Connection, Token};
use super::watch::WatchRecorder;
use crate::proc::client;

/// Time limit for a server's answer: above all of its own timeouts.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, ids and terms masked.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a read.
    Range(RangeResponse),
    /// To a write.
    Put(PutResponse),
    /// To a deletion.
    Delete(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
    /// To a hash request.
    Hash(HashKvResponse),
    /// To a grant of a lease.
    Grant(LeaseGrantResponse),
    /// To the end of a lease.
    Revoke(LeaseRevokeResponse),
    /// To a request for a lease's times.
    TimeToLive(LeaseTimeToLiveResponse),
    /// To a request for all leases.
    Leases(LeaseLeasesResponse),
    /// To a renewal.
    KeepAlive(LeaseKeepAliveResponse),
    /// To a request on the stream of watchers; none if the request is to be ignored.
    Watch(Option<WatchResponse>),
    /// To any other request, as text.
    Text(String),
    /// An error: its code and its text.
    Error(Code, String),
}

impl Answer {
    /// The store's revision, if the answer contains it.
    pub fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(response) => &response.header,
            Answer::Put(response) => &response.header,
            Answer::Delete(response) => &response.header,
            Answer::Txn(response) => &response.header,
            Answer::Compact(response) => &response.header,
            Answer::Hash(response) => &response.header,
            Answer::Grant(response) => &response.header,
            Answer::Revoke(response) => &response.header,
            Answer::TimeToLive(response) => &response.header,
            Answer::Leases(response) => &response.header,
            Answer::KeepAlive(response) => &response.header,
            Answer::Watch(Some(response)) => &response.header,
            Answer::Watch(None) | Answer::Text(_) | Answer::Error(..) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

/// A server under comparison.
#[derive(Debug)]
pub struct Subject {
    kv: KvClient<Connection>,
    maintenance: MaintenanceClient<Connection>,
    lease: LeaseClient<Connection>,
    /// Its watchers.
    pub watches: WatchRecorder,
}

impl Subject {
    /// Connects to the server when it is first used. All calls but watches have the token.
    pub fn connect(url: &str, token: &Token) -> Subject {
        let connection = || Connection::new(client::lazy(url), token.clone());
        Subject {
            kv: KvClient::new(connection()).max_decoding_message_size(client::ANSWER_LIMIT),
            maintenance: MaintenanceClient::new(connection()),
            lease: LeaseClient::new(connection()),
            watches: WatchRecorder::open(url),
        }
    }

    /// Carries the operation out. A missing answer is an answer too.
    pub async fn answer(&mut self, operation: &Operation) -> Answer {
        match tokio::time::timeout(PATIENCE, self.call(operation)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Error(Code::DeadlineExceeded, format!("none in {PATIENCE:?}")),
        }
    }

    async fn call(&mut self, operation: &Operation) -> Answer {
        let outcome = match operation.clone() {
            Operation::Grant(_)
            | Operation::Revoke(_)
            | Operation::TimeToLive(_)
            | Operation::Leases
            | Operation::KeepAlive(_) => self.call_lease(operation).await,
            Operation::Watch(request) => self.watches.create(request).await.map(Answer::Watch),
            Operation::CancelWatch(id) => self.watches.cancel(id).await.map(Answer::Watch),
            Operation::Progress => self.watches.progress().await.map(Answer::Watch),
            _ => self.call_kv(operation).await,
        };
        let mut answer = outcome.unwrap_or_else(|status: Status| {
            Answer::Error(status.code(), status.message().to_string())
        });
        answer.mask();
        answer
    }

    async fn call_kv(&mut self, operation: &Operation) -> Result<Answer, Status> {
        Ok(match operation.clone() {
            Operation::Range(range) => Answer::Range(self.kv.range(range).await?.into_inner()),
            Operation::Put(put) => Answer::Put(self.kv.put(put).await?.into_inner()),
            Operation::Delete(delete) => {
                Answer::Delete(self.kv.delete_range(delete).await?.into_inner())
            }
            Operation::Txn(txn) => Answer::Txn(self.kv.txn(txn).await?.into_inner()),
            Operation::Compact(compact) => {
                let response = self.kv.compact(compact).await?.into_inner();
                self.watches.note_compaction(compact.revision);
                Answer::Compact(response)
            }
            Operation::Hash(hash) => {
                Answer::Hash(self.maintenance.hash_kv(hash).await?.into_inner())
            }
            other => unreachable!("no request about pairs: {other:?}"),
        })
    }

    async fn call_lease(&mut self, operation: &Operation) -> Result<Answer, Status> {
        let lease = &mut self.lease;
        Ok(match operation.clone() {
            Operation::Grant(request) => {
                Answer::Grant(lease.lease_grant(request).await?.into_inner())
            }
            Operation::Revoke(request) => {
                Answer::Revoke(lease.lease_revoke(request).await?.into_inner())
            }
            Operation::TimeToLive(request) => {
                Answer::TimeToLive(lease.lease_time_to_live(request).await?.into_inner())
            }
            Operation::KeepAlive(request) => keep_alive(lease, request).await?,
            _ => {
                let request = LeaseLeasesRequest {};
                Answer::Leases(lease.lease_leases(request).await?.into_inner())
            }
        })
    }
}

/// One renewal on a stream of its own.
async fn keep_alive(
    lease: &mut LeaseClient<Connection>,
    request: LeaseKeepAliveRequest,
) -> Result<Answer, Status> {
    let call = lease.lease_keep_alive(tokio_stream::once(request)).await?;
    let answer = call.into_inner().message().await?;
    let answer = answer.ok_or_else(|| Status::unknown("the stream ended"))?;
    Ok(Answer::KeepAlive(answer))
}

impl Answer {
    /// Masks what depends on the member, the run or the time.
    fn mask(&mut self) {
        match self {
            Answer::Range(response) => mask(&mut response.header),
            Answer::Put(response) => mask(&mut response.header),
            Answer::Delete(response) => mask(&mut response.header),
            Answer::Txn(response) => mask_txn(response),
            Answer::Compact(response) => mask(&mut response.header),
            Answer::Hash(response) => mask(&mut response.header),
            Answer::Grant(response) => mask(&mut response.header),
            Answer::Revoke(response) => mask(&mut response.header),
            Answer::TimeToLive(response) => {
                mask(&mut response.header);
                // Whole seconds, which pass meanwhile.
                response.ttl = response.ttl.signum();
            }
            Answer::Leases(response) => mask(&mut response.header),
            Answer::KeepAlive(response) => mask(&mut response.header),
            Answer::Watch(Some(response)) => mask(&mut response.header),
            Answer::Watch(None) | Answer::Text(_) | Answer::Error(..) => {}
        }
    }
}

/// Everything in a header but the revision depends on the member or the run.
pub(super) fn mask(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader {
            revision: header.revision,
            ..Default::default()
        };
    }
}

fn mask_txn(response: &mut TxnResponse) {
    mask(&mut response.header);
    for nested in &mut response.responses {
        match &mut nested.response {
            Some(Nested::ResponseRange(response)) => mask(&mut response.header),
            Some(Nested::ResponsePut(response)) => mask(&mut response.header),
            Some(Nested::ResponseDeleteRange(response)) => mask(&mut response.header),
            Some(Nested::ResponseTxn(response)) => mask_txn(response),
            None => {}
        }
    }
}
