//! The accepted differences, which `golden/differences.md` explains.

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::SortTarget;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use keelson_proto::mvccpb::KeyValue;
use tonic::Code;

use super::answer::Answer;
use super::generate::Operation;

/// The explanations; a rule without its line there is not accepted.
pub const GOLDEN: &str = include_str!("../../golden/differences.md");

/// One accepted difference.
struct Rule {
    /// Its name: the first column of its line in the golden file.
    name: &'static str,
    /// Whether it explains why the answers are not the same.
    explains: fn(&Operation, &Answer, &Answer) -> bool,
}

const RULES: [Rule; 4] = [
    Rule {
        name: "sort-ties",
        explains: sort_ties,
    },
    Rule {
        name: "hash-revision",
        explains: hash_revision,
    },
    Rule {
        name: "hash-at-compaction",
        explains: hash_at_compaction,
    },
    Rule {
        name: "lease-order",
        explains: lease_order,
    },
];

/// The name of the accepted difference between the two answers, if it is one.
pub fn accepted(operation: &Operation, ours: &Answer, theirs: &Answer) -> Option<&'static str> {
    let rule = RULES
        .iter()
        .find(|rule| (rule.explains)(operation, ours, theirs))?;
    assert!(
        named().contains(&rule.name),
        "{} has no line in golden/differences.md",
        rule.name
    );
    Some(rule.name)
}

/// The names in the golden file.
pub fn named() -> Vec<&'static str> {
    named_in(GOLDEN)
}

/// The names in a file of accepted differences.
pub fn named_in(golden: &'static str) -> Vec<&'static str> {
    let rows = golden.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

fn hash_revision(_: &Operation, ours: &Answer, theirs: &Answer) -> bool {
    let (Answer::Hash(ours), Answer::Hash(theirs)) = (ours, theirs) else {
        return false;
    };
    let mut ours = *ours;
    ours.hash_revision = theirs.hash_revision;
    ours == *theirs
}

fn hash_at_compaction(operation: &Operation, ours: &Answer, theirs: &Answer) -> bool {
    let (Operation::Hash(request), Answer::Hash(hash)) = (operation, ours) else {
        return false;
    };
    let text = "etcdserver: mvcc: required revision has been compacted";
    let refused = *theirs == Answer::Error(Code::OutOfRange, text.to_string());
    refused && hash.compact_revision == request.revision
}

fn lease_order(_: &Operation, ours: &Answer, theirs: &Answer) -> bool {
    in_order(ours).is_some_and(|ours| Some(ours) == in_order(theirs))
}

/// A list of leases, or of a lease's keys, in order.
fn in_order(answer: &Answer) -> Option<Answer> {
    let mut answer = answer.clone();
    match &mut answer {
        Answer::Leases(response) => response.leases.sort_by_key(|lease| lease.id),
        Answer::TimeToLive(response) => response.keys.sort(),
        _ => return None,
    }
    Some(answer)
}

fn sort_ties(operation: &Operation, ours: &Answer, theirs: &Answer) -> bool {
    match (operation, ours, theirs) {
        (Operation::Range(request), Answer::Range(ours), Answer::Range(theirs)) => {
            untied_range(request, ours) == untied_range(request, theirs)
        }
        (Operation::Txn(request), Answer::Txn(ours), Answer::Txn(theirs)) => {
            untied_txn(request, ours) == untied_txn(request, theirs)
        }
        _ => false,
    }
}

/// The response with pairs of equal rank in key order, and without those of the last rank if the
/// limit cut there: the choice among them is as arbitrary as their order.
fn untied_range(request: &RangeRequest, response: &RangeResponse) -> RangeResponse {
    let mut response = response.clone();
    let Ok(target) = SortTarget::try_from(request.sort_target) else {
        return response;
    };
    if target == SortTarget::Key || response.kvs.is_empty() {
        return response;
    }
    if response.more {
        let last = response.kvs.last().map(|pair| rank(target, pair));
        response.kvs.retain(|pair| Some(rank(target, pair)) != last);
    }
    let groups = response
        .kvs
        .chunk_by_mut(|one, next| rank(target, one) == rank(target, next));
    for group in groups {
        group.sort_by(|one, other| one.key.cmp(&other.key));
    }
    response
}

/// The sort key of a pair.
fn rank(target: SortTarget, pair: &KeyValue) -> (i64, Bytes) {
    let number = match target {
        SortTarget::Key => return (0, pair.key.clone()),
        SortTarget::Value => return (0, pair.value.clone()),
        SortTarget::Version => pair.version,
        SortTarget::Create => pair.create_revision,
        SortTarget::Mod => pair.mod_revision,
    };
    (number, Bytes::new())
}

fn untied_txn(request: &TxnRequest, response: &TxnResponse) -> TxnResponse {
    let mut response = response.clone();
    let branch = if response.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (request, nested) in branch.iter().zip(&mut response.responses) {
        match (&request.request, &mut nested.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(range))) => {
                *range = untied_range(request, range);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(txn))) => {
                *txn = untied_txn(request, txn);
            }
            _ => {}
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::{LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveResponse};

    use super::super::settle::AT_COMPACTION;
    use super::*;

    #[test]
    fn leases_may_differ_in_their_order_alone() {
        let leases = |ids: &[i64]| {
            let leases = ids.iter().map(|id| LeaseStatus { id: *id }).collect();
            let header = None;
            Answer::Leases(LeaseLeasesResponse { header, leases })
        };
        let accepts =
            |ours: &Answer, theirs: &Answer| lease_order(&Operation::Leases, ours, theirs);
        assert!(accepts(&leases(&[1, 2, 3]), &leases(&[2, 3, 1])));
        assert!(!accepts(&leases(&[1, 2]), &leases(&[1, 2, 3])));
        assert!(!accepts(&leases(&[1, 2]), &Answer::Text(String::new())));
        let of_keys = |keys: &[&'static str]| {
            Answer::TimeToLive(LeaseTimeToLiveResponse {
                keys: keys.iter().map(|key| Bytes::from(*key)).collect(),
                ..LeaseTimeToLiveResponse::default()
            })
        };
        assert!(accepts(&of_keys(&["a", "b"]), &of_keys(&["b", "a"])));
        assert!(!accepts(&of_keys(&["a", "b"]), &of_keys(&["b", "b"])));
    }

    #[test]
    fn every_rule_has_its_line_and_every_line_its_rule() {
        let rules = RULES.iter().map(|rule| rule.name);
        let rules: Vec<&str> = rules.chain([AT_COMPACTION]).collect();
        assert_eq!(rules, named());
    }
}
