//! Txn: choose every branch, check for all errors, then apply.

use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};

use super::error::Error;
use super::keys::KeyRange;
use super::range::header;
use super::shared::{ReadError, Reads};
use super::write::Write;
use super::{compare, delete, put};

/// A transaction whose branches have been chosen, nested ones included. All conditions are
/// evaluated on the state before it.
pub(super) struct Plan {
    succeeded: bool,
    ops: Vec<TxnOp>,
}

enum TxnOp {
    /// A request as the client sent it. Never `RequestTxn`.
    Plain(Option<Request>),
    Nested(Plan),
}

impl Plan {
    /// Chooses the branches.
    pub(super) fn new(reads: &Reads<'_>, txn: TxnRequest) -> Result<Plan, ReadError> {
        let mut succeeded = true;
        for condition in &txn.compare {
            succeeded = succeeded && compare::holds(reads, condition)?;
        }
        let branch = if succeeded { txn.success } else { txn.failure };
        let chosen = |op: RequestOp| match op.request {
            Some(Request::RequestTxn(nested)) => Plan::new(reads, nested).map(TxnOp::Nested),
            plain => Ok(TxnOp::Plain(plain)),
        };
        let ops = branch.into_iter().map(chosen).collect::<Result<_, _>>()?;
        Ok(Plan { succeeded, ops })
    }

    /// Returns an error if any operation would fail: puts are checked first, then ranges, as in
    /// etcd.
    pub(super) fn check(&self, reads: &Reads<'_>) -> Result<(), Error> {
        let mut deleted = Vec::new();
        self.visit(&mut |request| match request {
            Request::RequestPut(put) => check_put(reads, put, &deleted),
            Request::RequestDeleteRange(delete) => {
                deleted.push(KeyRange::new(&delete.key, &delete.range_end));
                Ok(())
            }
            _ => Ok(()),
        })?;
        self.visit(&mut |request| match request {
            Request::RequestRange(range) => check_revision(reads, range),
            _ => Ok(()),
        })
    }

    fn visit<'a>(
        &'a self,
        see: &mut impl FnMut(&'a Request) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.ops.iter().try_for_each(|op| match op {
            TxnOp::Plain(Some(request)) => see(request),
            TxnOp::Plain(None) => Ok(()),
            TxnOp::Nested(plan) => plan.visit(see),
        })
    }

    /// Applies the transaction.
    pub(super) fn apply(
        self,
        write: &mut Write<'_>,
        want_response: bool,
    ) -> Result<TxnResponse, ReadError> {
        let mut responses = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            let response = match op {
                TxnOp::Plain(None) => None,
                TxnOp::Plain(Some(request)) => apply_one(write, request, want_response)?,
                TxnOp::Nested(plan) => {
                    Some(Response::ResponseTxn(plan.apply(write, want_response)?))
                }
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse {
            // Only the outermost header has a revision; etcd leaves 0 in nested ones.
            header: header(0),
            succeeded: self.succeeded,
            responses,
        })
    }

    /// Evaluates a read-only transaction.
    pub(super) fn read(self, reads: &Reads<'_>) -> Result<TxnResponse, ReadError> {
        let mut responses = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            let response = match op {
                TxnOp::Plain(Some(Request::RequestRange(range))) => {
                    Some(Response::ResponseRange(reads.range(&range)?))
                }
                TxnOp::Plain(_) => None,
                TxnOp::Nested(plan) => Some(Response::ResponseTxn(plan.read(reads)?)),
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse {
            header: header(0),
            succeeded: self.succeeded,
            responses,
        })
    }
}

fn apply_one(
    write: &mut Write<'_>,
    request: Request,
    want_response: bool,
) -> Result<Option<Response>, ReadError> {
    Ok(Some(match request {
        // The range was checked before, and changes nothing.
        Request::RequestRange(_) if !want_response => return Ok(None),
        Request::RequestRange(range) => Response::ResponseRange(write.reads().range(&range)?),
        Request::RequestPut(put) => Response::ResponsePut(put::apply(write, put, want_response)?),
        Request::RequestDeleteRange(range) => {
            Response::ResponseDeleteRange(delete::apply(write, &range, want_response)?)
        }
        Request::RequestTxn(_) => unreachable!("a nested transaction is a plan of its own"),
    }))
}

/// Refuses a put that keeps the value or lease of a key which the transaction deletes before it.
/// `check::txn` does not detect an open-ended delete, on which etcd panics.
fn check_put(reads: &Reads<'_>, put: &PutRequest, deleted: &[KeyRange<'_>]) -> Result<(), Error> {
    let keeps = put.ignore_value || put.ignore_lease;
    if keeps && deleted.iter().any(|range| range.contains(&put.key)) {
        return Err(Error::KeyNotFound);
    }
    put::check(reads, put)
}

/// Unlike a range outside of transactions, one inside may not name a negative revision once the
/// store has been compacted: etcd accepts only 0 for "now" here.
fn check_revision(reads: &Reads<'_>, range: &RangeRequest) -> Result<(), Error> {
    match range.revision {
        0 => Ok(()),
        future if future > reads.current => Err(Error::FutureRev),
        old if old < reads.compacted => Err(Error::Compacted),
        _ => Ok(()),
    }
}

/// Applies a transaction; the header has the revision after it.
pub(super) fn apply(
    write: &mut Write<'_>,
    txn: TxnRequest,
    want_response: bool,
) -> Result<TxnResponse, ReadError> {
    let before = write.reads();
    let plan = Plan::new(&before, txn)?;
    plan.check(&before)?;
    if 1 < plan.ops.len() {
        write.count_txn();
    }
    let mut response = plan.apply(write, want_response)?;
    response.header = header(write.revision());
    Ok(response)
}
