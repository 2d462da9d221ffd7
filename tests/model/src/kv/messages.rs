//! Requests, responses and refusals.

use keelson_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};

/// A client's request.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Read one key or many.
    Range(RangeRequest),
    /// Write one key.
    Put(PutRequest),
    /// Delete one key or many.
    DeleteRange(DeleteRangeRequest),
    /// Compare, then carry out one list of operations or the other.
    Txn(TxnRequest),
    /// Compact old revisions.
    Compact(CompactionRequest),
}

impl Request {
    /// Whether it goes through the log.
    pub fn is_write(&self) -> bool {
        !matches!(self, Request::Range(_))
    }
}

/// A successful response.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
}

impl Response {
    /// The header that every response has.
    pub fn header(&self) -> Option<&ResponseHeader> {
        match self {
            Response::Range(response) => response.header.as_ref(),
            Response::Put(response) => response.header.as_ref(),
            Response::DeleteRange(response) => response.header.as_ref(),
            Response::Txn(response) => response.header.as_ref(),
            Response::Compact(response) => response.header.as_ref(),
        }
    }

    /// The revision in the header.
    pub fn revision(&self) -> i64 {
        self.header().map_or(0, |header| header.revision)
    }
}

/// Why the model refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The revision has been compacted.
    Compacted,
    /// The revision is in the future.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on an absent key.
    KeyNotFound,
    /// The lease does not exist.
    LeaseNotFound,
    /// A lease has that id.
    LeaseExists,
}
