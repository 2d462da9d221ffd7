//! The use of a transaction: known before it is proposed, counted by the branch that it took.

use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{RequestOp, TxnRequest};

use super::{Account, Use, prefix};

/// The operations of both branches, by prefix. The prefixes are copies: a transaction that waits
/// must not keep its request's buffer.
#[derive(Debug)]
pub(crate) struct TxnUse {
    success: Vec<(Box<[u8]>, Use)>,
    failure: Vec<(Box<[u8]>, Use)>,
}

impl TxnUse {
    /// Those of a transaction; of a nested one, those of both of its branches. What reads return is
    /// not counted.
    pub(crate) fn of(request: &TxnRequest) -> TxnUse {
        let mut used = TxnUse {
            success: Vec::new(),
            failure: Vec::new(),
        };
        collect(&request.success, &mut used.success);
        collect(&request.failure, &mut used.failure);
        used
    }

    /// Counts the branch that was taken.
    pub(crate) fn count(&self, account: &Account, succeeded: bool) {
        let taken = match succeeded {
            true => &self.success,
            false => &self.failure,
        };
        account.v3_all(taken);
    }
}

fn collect(operations: &[RequestOp], into: &mut Vec<(Box<[u8]>, Use)>) {
    for operation in operations {
        match &operation.request {
            Some(Request::RequestPut(put)) => {
                let written = Use::written(put.key.len() + put.value.len());
                into.push((prefix::of(&put.key).into(), written));
            }
            Some(Request::RequestDeleteRange(delete)) => {
                into.push((prefix::of(&delete.key).into(), Use::written(0)));
            }
            Some(Request::RequestRange(range)) => {
                into.push((prefix::of(&range.key).into(), Use::read(0)))
            }
            Some(Request::RequestTxn(txn)) => {
                collect(&txn.success, into);
                collect(&txn.failure, into);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};

    use super::*;

    #[test]
    fn one_branch_is_counted() {
        let put = PutRequest {
            key: "/registry/pods/a".into(),
            value: "12345".into(),
            ..PutRequest::default()
        };
        let range = RangeRequest {
            key: "/registry/nodes/a".into(),
            ..RangeRequest::default()
        };
        let operation = |request| RequestOp {
            request: Some(request),
        };
        let txn = TxnRequest {
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestRange(range))],
            ..TxnRequest::default()
        };
        let (account, used) = (Account::default(), TxnUse::of(&txn));
        used.count(&account, true);
        used.count(&account, true);
        used.count(&account, false);
        let prefixes = account.read().prefixes;
        let [nodes, pods] = &*prefixes else {
            panic!("{prefixes:?}");
        };
        assert_eq!((nodes.reads, nodes.writes), (1, 0));
        assert_eq!((pods.writes, pods.written_bytes), (2, 2 * 21));
    }
}
