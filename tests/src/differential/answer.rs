//! Carries an operation out and masks the parts of an answer in which two servers always differ.

use std::time::Duration;

use anyhow::{Context, Result};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::response_op::Response as Nested;
use keelson_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantRequest, PutResponse,
    RangeResponse, ResponseHeader, TxnResponse,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::generate::{LEASE, Operation};
use crate::proc::client;

/// Time limit for a server's answer: above all of its own timeouts.
const PATIENCE: Duration = Duration::from_secs(20);

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
            Answer::Error(..) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

/// A server under comparison.
#[derive(Debug)]
pub struct Subject {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    lease: LeaseClient<Channel>,
}

impl Subject {
    /// Connects to the server.
    ///
    /// # Errors
    /// It does not accept.
    pub async fn connect(url: &str) -> Result<Subject> {
        Ok(Subject {
            kv: client::kv(url).await?,
            maintenance: client::maintenance(url).await?,
            lease: LeaseClient::new(client::lazy(url)),
        })
    }

    /// Requests the lease that operations use. Returns whether the server supports leases.
    ///
    /// # Errors
    /// The server supports leases and refuses this one.
    pub async fn grant(&mut self) -> Result<bool> {
        let request = LeaseGrantRequest {
            id: LEASE,
            // It must outlive the run: the time of an expiry is not determined.
            ttl: 1_000_000,
        };
        match self.lease.lease_grant(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::Unimplemented => Ok(false),
            Err(status) => Err(status).context("cannot grant a lease"),
        }
    }

    /// Carries the operation out. A missing answer is an answer too.
    pub async fn answer(&mut self, operation: &Operation) -> Answer {
        match tokio::time::timeout(PATIENCE, self.ask(operation)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Error(Code::DeadlineExceeded, format!("none in {PATIENCE:?}")),
        }
    }

    async fn ask(&mut self, operation: &Operation) -> Answer {
        let outcome = match operation.clone() {
            Operation::Range(range) => self
                .kv
                .range(range)
                .await
                .map(|r| range_answer(r.into_inner())),
            Operation::Put(put) => self.kv.put(put).await.map(|r| {
                let mut response = r.into_inner();
                mask(&mut response.header);
                Answer::Put(response)
            }),
            Operation::Delete(delete) => self.kv.delete_range(delete).await.map(|r| {
                let mut response = r.into_inner();
                mask(&mut response.header);
                Answer::Delete(response)
            }),
            Operation::Txn(txn) => self.kv.txn(txn).await.map(|r| {
                let mut response = r.into_inner();
                mask_txn(&mut response);
                Answer::Txn(response)
            }),
            Operation::Compact(compact) => self.kv.compact(compact).await.map(|r| {
                let mut response = r.into_inner();
                mask(&mut response.header);
                Answer::Compact(response)
            }),
            Operation::Hash(hash) => self.maintenance.hash_kv(hash).await.map(|r| {
                let mut response = r.into_inner();
                mask(&mut response.header);
                Answer::Hash(response)
            }),
        };
        outcome.unwrap_or_else(|status: Status| {
            Answer::Error(status.code(), status.message().to_string())
        })
    }
}

fn range_answer(mut response: RangeResponse) -> Answer {
    mask(&mut response.header);
    Answer::Range(response)
}

/// Everything in a header but the revision depends on the member or the run.
fn mask(header: &mut Option<ResponseHeader>) {
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
