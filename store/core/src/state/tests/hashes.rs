//! HashKV: equal on every member, and equal to etcd's.

use super::harness::Machine;
use super::requests::*;
use crate::state::Error;

fn history(machine: &mut Machine, flush: bool, sweep: bool) {
    for round in 0..4 {
        for key in ["a", "b", "c"] {
            machine.put(put(key, &round.to_string())).unwrap();
        }
        machine.delete(delete("c", ""));
        if flush {
            machine.flush();
        }
        machine.compact(4 * round + 3).unwrap();
        if sweep {
            machine.sweep();
        }
    }
}

#[test]
fn the_hash_does_not_depend_on_flushes_or_sweeps() {
    let hashes = [(false, false), (false, true), (true, false), (true, true)].map(|(f, s)| {
        let mut machine = Machine::new();
        history(&mut machine, f, s);
        let view = machine.state.view();
        let all = (15..=17).map(|revision| view.hash_kv(revision));
        all.chain([view.hash_kv(0)]).collect::<Vec<_>>()
    });
    for other in &hashes[1..] {
        assert_eq!(other, &hashes[0]);
    }
}

#[test]
fn the_hash_does_not_tell_even_if_no_key_is_left() {
    let hashes = [(false, false), (true, true)].map(|(flush, sweep)| {
        let mut machine = Machine::new();
        history(&mut machine, flush, sweep);
        machine.delete(delete("\0", "\0"));
        machine.state.view().hash_kv(0)
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn the_hash_reports_its_revisions() {
    let mut machine = Machine::new();
    history(&mut machine, true, true);
    let view = machine.state.view();
    assert_eq!(view.hash_kv(14), Err(Error::Compacted));
    assert_eq!(view.hash_kv(18), Err(Error::FutureRev));
    let hash = view.hash_kv(16).unwrap();
    assert_eq!((hash.compact_revision, hash.hash_revision), (15, 16));
    assert_eq!(hash.current_revision, 17);
    assert_ne!(hash.hash, view.hash_kv(17).unwrap().hash);
}

/// Every number is what etcd 3.4.23 returned for `etcdctl endpoint hashkv` after the same requests.
#[test]
fn the_hash_is_etcds() {
    let mut machine = Machine::new();
    let hash = |machine: &Machine, revision, expected: u32| {
        let got = machine.state.view().hash_kv(revision).unwrap();
        assert_eq!(got.hash, expected, "at revision {revision}: {got:?}");
    };
    let compact = |machine: &mut Machine, revision| {
        machine.compact(revision).unwrap();
        machine.sweep();
        machine.flush();
    };
    hash(&machine, 0, 1084519789);
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        machine.put(put(key, value)).unwrap();
    }
    machine.delete(delete("a", ""));
    machine.put(put("c", "4")).unwrap();
    let ops = vec![op_put("x", "1"), op_delete("b", ""), op_put("y", "2")];
    machine.txn(txn(vec![], ops, vec![])).unwrap();
    hash(&machine, 0, 4039513540);
    hash(&machine, 3, 1827592406);
    hash(&machine, 5, 1346927904);
    hash(&machine, 7, 4039513540);

    machine.put(put("c", "5")).unwrap();
    machine.put(put("a", "6")).unwrap();
    compact(&mut machine, 7);
    hash(&machine, 0, 1315764074);
    hash(&machine, 8, 4284518071);

    machine.delete(delete("\0", "\0"));
    hash(&machine, 0, 1038494031);
    compact(&mut machine, 10);
    hash(&machine, 0, 1084519789);
    machine.put(put("z", "1")).unwrap();
    hash(&machine, 0, 974378710);
    machine.put(put("z", "2")).unwrap();
    compact(&mut machine, 11);
    hash(&machine, 0, 1554886475);
    hash(&machine, 12, 1554886475);
    machine.delete(delete("z", ""));
    hash(&machine, 0, 1306311172);
}
