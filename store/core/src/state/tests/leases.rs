//! Leases: what they refuse, what a revocation deletes, and what members agree on.

use bytes::Bytes;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{AlarmRequest, AlarmType, LeaseGrantResponse, PutRequest};
use keelson_proto::internal::command::Op;
use proptest::prelude::*;

use super::harness::Machine;
use super::requests::*;
use crate::state::*;

fn leased(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        lease,
        ..put(key, "v")
    }
}

fn activate(alarm: AlarmType) -> Op {
    Op::Alarm(AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 1,
        alarm: alarm.into(),
    })
}

fn keys(machine: &Machine, lease: i64) -> Vec<Bytes> {
    machine.state.view().lease_keys(lease)
}

#[test]
fn a_grant_has_etcds_rules_and_texts() {
    let mut machine = Machine::new();
    let granted = machine.apply(grant(7, 5)).unwrap();
    let Response::LeaseGrant(LeaseGrantResponse {
        id, ttl, header, ..
    }) = granted
    else {
        panic!("{granted:?}");
    };
    assert_eq!((id, ttl, header.unwrap().revision), (7, 5, 1));
    let text = |done: Result<Response, Error>| done.unwrap_err().to_string();
    let again = text(machine.apply(grant(7, 5)));
    assert_eq!(again, "etcdserver: lease already exists");
    let long = text(machine.apply(grant(8, LEASE_TTL_MAX + 1)));
    assert_eq!(long, "etcdserver: too large lease TTL");
    assert!(machine.apply(grant(i64::MIN, LEASE_TTL_MAX)).is_ok());
    let gone = text(machine.apply(revoke(8)));
    assert_eq!(gone, "etcdserver: requested lease not found");
}

#[test]
fn a_revocation_deletes_the_keys_in_one_revision_and_in_order() {
    let mut machine = Machine::new();
    machine.apply(grant(7, 5)).unwrap();
    machine.apply(grant(8, 5)).unwrap();
    for key in ["c", "a", "b", "d", "e"] {
        machine.put(leased(key, 7)).unwrap();
    }
    machine
        .put(put("d", "detached by a put without lease"))
        .unwrap();
    machine.put(leased("e", 8)).unwrap();
    assert_eq!(keys(&machine, 7), [&b"a"[..], b"b", b"c"]);
    let before = machine.state.view().revision();
    machine.apply(revoke(7)).unwrap();
    let view = machine.state.view();
    assert_eq!(view.revision(), before + 1);
    assert_eq!(machine.show(&all()).len(), 2);
    assert_eq!((view.lease(7), view.lease(8).unwrap().keys), (None, 1));
    // Without keys, no revision.
    machine.apply(grant(7, 5)).unwrap();
    machine.apply(revoke(7)).unwrap();
    assert_eq!(machine.state.view().revision(), before + 1);
}

/// An id may be used again. Without the entry that granted it in the command, an expiry that was
/// proposed for the first lease would end the second.
#[test]
fn an_expiry_ends_no_later_lease_of_the_same_id_and_acts_in_its_own_term_only() {
    let mut machine = Machine::new();
    machine.apply(grant(7, 5)).unwrap();
    machine.put(leased("a", 7)).unwrap();
    let first = machine.state.view().lease(7).unwrap().name();
    machine.apply(expire(2, vec![first])).unwrap();
    assert!(machine.state.view().lease(7).is_some(), "another term");
    machine.apply(revoke(7)).unwrap();
    machine.apply(grant(7, 5)).unwrap();
    machine.put(leased("a", 7)).unwrap();
    machine.apply(expire(1, vec![first])).unwrap();
    machine.apply(checkpoint(1, first, 3)).unwrap();
    let second = machine.state.view().lease(7).expect("it was granted later");
    assert_eq!(second.remaining, 0);
    machine.apply(checkpoint(2, second.name(), 3)).unwrap();
    assert_eq!(machine.state.view().lease(7).unwrap().remaining, 0);
    machine.apply(checkpoint(1, second.name(), 3)).unwrap();
    assert_eq!(machine.state.view().lease(7).unwrap().remaining, 3);
    machine
        .apply(expire(1, vec![first, second.name()]))
        .unwrap();
    assert_eq!(machine.show(&all()), [""; 0]);
}

#[test]
fn each_expired_lease_has_a_revision_of_its_own() {
    let mut machine = Machine::new();
    let mut names = Vec::new();
    for id in 1..=3 {
        machine.apply(grant(id, 5)).unwrap();
        machine.put(leased(&format!("{id}a"), id)).unwrap();
        machine.put(leased(&format!("{id}b"), id)).unwrap();
        names.push(machine.state.view().lease(id).unwrap().name());
    }
    let before = machine.state.view().revision();
    machine.apply(expire(1, names)).unwrap();
    assert_eq!(machine.state.view().revision(), before + 3);
    let mut left = Vec::new();
    for revision in before..=before + 3 {
        left.push(machine.show(&at(revision, all())).len());
    }
    assert_eq!(left, [6, 4, 2, 0]);
}

#[test]
fn alarms_refuse_what_etcds_refuse() {
    let mut machine = Machine::new();
    machine.apply(grant(7, 5)).unwrap();
    machine.apply(activate(AlarmType::Nospace)).unwrap();
    assert_eq!(machine.apply(grant(8, 5)), Err(Error::NoSpace));
    machine.apply(revoke(7)).unwrap();
    machine.apply(activate(AlarmType::Corrupt)).unwrap();
    assert_eq!(machine.apply(grant(8, 5)), Err(Error::Corrupt));
    assert_eq!(machine.apply(revoke(8)), Err(Error::Corrupt));
}

proptest! {
    /// Only the newest row of a key counts, as in the index.
    #[test]
    fn attachments_are_the_same_after_a_restart(
        writes in proptest::collection::vec((0..6u8, 0..4i64, any::<bool>()), 1..60),
    ) {
        let mut machine = Machine::new();
        for id in 1..4 {
            machine.apply(grant(id, 5)).unwrap();
        }
        for (key, lease, flush) in writes {
            let key = format!("k{key}");
            match lease {
                3 => drop(machine.delete(delete(&key, ""))),
                lease => drop(machine.put(leased(&key, lease))),
            }
            if flush {
                machine.flush();
            }
        }
        machine.flush();
        let attached = |machine: &Machine| [1, 2, 3].map(|id| keys(machine, id));
        let before = (attached(&machine), machine.state.view().leases());
        machine.restart();
        prop_assert_eq!(before, (attached(&machine), machine.state.view().leases()));
    }
}
