//! Rights against a model that decides key by key, for requests of every kind.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_model::auth::{Asked as Of, Rights};
use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;
use proptest::collection::vec;
use proptest::prelude::*;

use super::auth_rules::*;
use super::harness::Machine;
use super::requests::{bytes, grant, put, revoke as revoke_lease};
use crate::state::auth::{Access, Caller, Duty};
use crate::state::*;

/// `key` and `range_end`.
type Fields = (String, String);

/// The lease of the test.
const LEASE: i64 = 7;

/// A key in each part into which the test's ranges divide the key space, and one behind all.
fn keys() -> impl Iterator<Item = String> {
    let letters = 'a'..='f';
    let of = |letter: char| {
        [
            format!("{letter}"),
            format!("{letter}\0"),
            format!("{letter}5"),
        ]
    };
    letters.flat_map(of).chain(["~".to_owned()])
}

fn fields() -> impl Strategy<Value = Fields> {
    let letter = || prop::sample::select(vec!["a", "b", "c", "d", "e", "f"]);
    let end = prop::sample::select(vec!["", "", "\0", "b", "c", "d", "f"]);
    (letter(), end).prop_map(|(key, end)| (key.to_owned(), end.to_owned()))
}

/// A request.
#[derive(Clone, Debug)]
enum Asked {
    Command(Op),
    Range(RangeRequest),
    ReadTxn(TxnRequest),
    Watch(WatchCreateRequest),
    LeaseTimes(bool),
    Leases,
    Duty(Duty),
}

fn put_request() -> impl Strategy<Value = PutRequest> {
    (fields(), any::<bool>(), any::<bool>()).prop_map(|((key, _), prev_kv, leased)| PutRequest {
        prev_kv,
        lease: if leased { LEASE } else { 0 },
        ..put(&key, "x")
    })
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    fields().prop_map(|(key, end)| RangeRequest {
        key: bytes(&key),
        range_end: bytes(&end),
        ..RangeRequest::default()
    })
}

fn delete_request() -> impl Strategy<Value = DeleteRangeRequest> {
    (fields(), any::<bool>()).prop_map(|((key, end), prev_kv)| DeleteRangeRequest {
        key: bytes(&key),
        range_end: bytes(&end),
        prev_kv,
    })
}

fn txn_request() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        put_request().prop_map(Request::RequestPut),
        range_request().prop_map(Request::RequestRange),
        delete_request().prop_map(Request::RequestDeleteRange),
    ];
    let nested = leaf.prop_recursive(3, 8, 3, |inner| {
        txn_of(inner.boxed()).prop_map(Request::RequestTxn)
    });
    txn_of(nested.boxed())
}

fn txn_of(ops: BoxedStrategy<Request>) -> impl Strategy<Value = TxnRequest> {
    let compare = fields().prop_map(|(key, end)| Compare {
        key: bytes(&key),
        range_end: bytes(&end),
        ..Compare::default()
    });
    let ops = ops.prop_map(|request| RequestOp {
        request: Some(request),
    });
    let branch = || vec(ops.clone(), 0..3);
    (vec(compare, 0..2), branch(), branch()).prop_map(|(compare, success, failure)| TxnRequest {
        compare,
        success,
        failure,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let alarm = |action: AlarmAction| {
        Op::Alarm(AlarmRequest {
            action: action.into(),
            ..AlarmRequest::default()
        })
    };
    let other = vec![
        Asked::Command(Op::Compaction(CompactionRequest::default())),
        Asked::Command(alarm(AlarmAction::Get)),
        Asked::Command(alarm(AlarmAction::Activate)),
        Asked::Command(grant(8, 60)),
        Asked::Command(revoke_lease(LEASE)),
        Asked::Command(auth(user_add("w"))),
        Asked::LeaseTimes(true),
        Asked::LeaseTimes(false),
        Asked::Leases,
        Asked::Duty(Duty::Operate),
    ];
    prop_oneof![
        2 => put_request().prop_map(|put| Asked::Command(Op::Put(put))),
        2 => delete_request().prop_map(|delete| Asked::Command(Op::DeleteRange(delete))),
        2 => range_request().prop_map(Asked::Range),
        4 => txn_request().prop_map(|txn| Asked::Command(Op::Txn(txn))),
        1 => txn_request().prop_map(Asked::ReadTxn),
        2 => fields().prop_map(|(key, end)| Asked::Watch(WatchCreateRequest {
            key: bytes(&key),
            range_end: bytes(&end),
            ..WatchCreateRequest::default()
        })),
        3 => prop::sample::select(other),
    ]
}

/// What the user's roles permit, by role and range, and the keys of the lease.
struct Model {
    permissions: BTreeMap<(String, Fields), Type>,
    attached: Vec<Bytes>,
    keys: Vec<Bytes>,
}

impl Model {
    fn permits(&self, asked: &Asked) -> bool {
        let permissions = self.permissions.iter().map(|((_, (key, end)), kind)| {
            let range = (bytes(key), bytes(end));
            (*kind, range)
        });
        let rights = Rights {
            keys: &self.keys,
            permissions: permissions.collect(),
            attached: &self.attached,
            may_compact: false,
        };
        match asked {
            Asked::Command(Op::Put(put)) => rights.permits(&Of::Put(put)),
            Asked::Command(Op::DeleteRange(delete)) => rights.permits(&Of::Delete(delete)),
            Asked::Command(Op::Txn(txn)) | Asked::ReadTxn(txn) => rights.permits(&Of::Txn(txn)),
            Asked::Command(Op::Compaction(_)) => rights.permits(&Of::Compact),
            Asked::Command(Op::LeaseGrant(_)) => true,
            Asked::Command(Op::LeaseRevoke(_)) => rights.lease(Type::Write),
            Asked::Command(Op::Alarm(alarm)) => alarm.action() == AlarmAction::Get,
            Asked::Command(_) | Asked::Duty(_) => false,
            Asked::Range(it) => rights.permits(&Of::Range(it)),
            Asked::Watch(it) => rights.permits(&Of::Watch(&it.key, &it.range_end)),
            Asked::LeaseTimes(with_keys) => !with_keys || rights.lease(Type::Read),
            Asked::Leases => rights.lease(Type::Read),
        }
    }
}

fn access(asked: &Asked) -> Access<'_> {
    static TIMES: [LeaseTimeToLiveRequest; 2] = [
        LeaseTimeToLiveRequest {
            id: LEASE,
            keys: false,
        },
        LeaseTimeToLiveRequest {
            id: LEASE,
            keys: true,
        },
    ];
    match asked {
        Asked::Command(op) => Access::Command(op),
        Asked::Range(range) => Access::Range(range),
        Asked::ReadTxn(txn) => Access::Txn(txn),
        Asked::Watch(watch) => Access::watch(watch),
        Asked::LeaseTimes(with_keys) => Access::LeaseTimes(&TIMES[usize::from(*with_keys)]),
        Asked::Leases => Access::Leases,
        Asked::Duty(duty) => Access::Duty(*duty),
    }
}

proptest! {
    #[test]
    fn a_request_is_permitted_if_each_of_its_keys_is(
        permissions in vec((0..3_i32, fields(), any::<bool>()), 0..6),
        attached in vec(prop::sample::select(keys().collect::<Vec<_>>()), 0..4),
        asked in vec(asked(), 1..12),
    ) {
        let mut machine = Machine::with_auth();
        machine.auth(role_add("s")).unwrap();
        machine.auth(grant_role("u", "s")).unwrap();
        let mut model = Model {
            permissions: BTreeMap::new(),
            attached: attached.iter().map(|key| bytes(key)).collect(),
            keys: keys().map(|key| bytes(&key)).collect(),
        };
        for (kind, (key, end), of_r) in permissions {
            let kind = Type::try_from(kind).expect("a kind");
            let role = if of_r { "r" } else { "s" };
            if machine.auth(permit(role, kind, &key, &end)).is_ok() {
                // It replaces the role's permission for the same range.
                model.permissions.insert((role.to_owned(), (key, end)), kind);
            }
        }
        machine.apply(Caller::Member.signed(grant(LEASE, 60))).unwrap();
        for key in &attached {
            let put = PutRequest { lease: LEASE, ..put(key, "x") };
            machine.apply(Caller::Member.signed(Op::Put(put))).unwrap();
        }
        let view = machine.state.view();
        let user = Caller::User { name: "u".into(), since: 0 };
        for asked in asked {
            let permitted = view.authorize(&user, access(&asked));
            prop_assert!(matches!(permitted, Ok(()) | Err(Error::PermissionDenied)));
            prop_assert_eq!(permitted.is_ok(), model.permits(&asked), "{:?}", asked);
            // Without a user nothing is permitted, and root may do all.
            let nobody = view.authorize(&Caller::Anonymous, access(&asked));
            prop_assert_eq!(nobody, Err(Error::UserEmpty));
            let root = Caller::User { name: "root".into(), since: 0 };
            prop_assert_eq!(view.authorize(&root, access(&asked)), Ok(()));
        }
    }
}
