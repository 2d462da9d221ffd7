//! Watches while rights change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::WatchCreateRequest;

use super::auth_rules::*;
use super::harness::Machine;
use super::requests::{self, bytes, put};
use super::watches::contents;
use crate::state::auth::Caller;
use crate::watch::{WatchHub, WatchStream};

/// A machine with auth, in which `u` may read `[a, c)`, and a stream of a caller.
struct Watching {
    machine: Machine,
    hub: Arc<WatchHub>,
    stream: WatchStream,
    woken: Arc<AtomicBool>,
}

fn user(since: u64) -> Caller {
    let name = "u".into();
    Caller::User { name, since }
}

impl Watching {
    fn new(caller: Caller) -> Watching {
        let mut machine = Machine::with_auth();
        machine.auth(permit("r", Type::Read, "a", "c")).unwrap();
        Watching::on(machine, caller)
    }

    fn on(machine: Machine, caller: Caller) -> Watching {
        let hub = WatchHub::new(machine.state.view());
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let wake = move || flag.store(true, Ordering::Relaxed);
        let stream = hub.stream(Arc::new(caller), wake);
        Watching {
            machine,
            hub,
            stream,
            woken,
        }
    }

    fn watch(&mut self, key: &str, end: &str) -> Vec<String> {
        self.stream.create(WatchCreateRequest {
            key: bytes(key),
            range_end: bytes(end),
            ..WatchCreateRequest::default()
        });
        self.read()
    }

    fn put(&mut self, key: &str) {
        let op = Caller::Member.signed(keelson_proto::internal::command::Op::Put(put(key, "x")));
        self.machine.apply(op).unwrap();
        self.fan_out();
    }

    fn auth(&mut self, op: keelson_proto::internal::auth_change::Op) {
        self.machine.auth(op).unwrap();
        self.fan_out();
    }

    fn fan_out(&mut self) {
        while self.hub.is_behind() {
            self.hub.fan_out().unwrap();
        }
    }

    fn read(&mut self) -> Vec<String> {
        let messages = contents(&mut self.stream).into_iter();
        messages
            .map(|(id, _, text)| format!("{id} {text}"))
            .collect()
    }
}

#[test]
fn a_watch_ends_when_its_user_loses_the_right_to_its_range() {
    let mut run = Watching::new(user(0));
    assert_eq!(run.watch("a", "b"), ["0 Created"]);
    assert_eq!(run.watch("b", ""), ["1 Created"]);
    assert_eq!(
        run.watch("a", "\0"),
        ["-1 Refused(\"rpc error: code = PermissionDenied desc = etcdserver: permission denied\")"]
    );
    run.put("a");
    assert_eq!(run.read(), ["0 1 events"]);
    // Without a write the stream is woken.
    run.woken.store(false, Ordering::Relaxed);
    run.auth(permit("r", Type::Read, "b", ""));
    assert!(run.woken.load(Ordering::Relaxed));
    assert!(run.read().is_empty(), "a right more ends nothing");
    run.auth(revoke("r", "a", "c"));
    assert_eq!(run.read(), ["0 Denied(PermissionDenied)"]);
    run.put("a");
    run.put("b");
    assert_eq!(run.read(), ["1 1 events"]);
    run.auth(permit("r", Type::Read, "a", "c"));
    run.put("a");
    assert!(run.read().is_empty(), "it was ended");
}

/// A stream that reads late must not be sent what was written after the revocation, nor what it has
/// not read of before.
#[test]
fn events_that_wait_are_not_sent_after_a_revocation() {
    let mut run = Watching::new(user(0));
    run.watch("a", "c");
    run.put("a");
    run.machine.auth(revoke_role("u", "r")).unwrap();
    run.put("a");
    assert_eq!(run.read(), ["0 Denied(PermissionDenied)"]);
    // Also where the hub has not woken the stream yet.
    run.auth(grant_role("u", "r"));
    run.watch("a", "c");
    run.put("a");
    run.machine.auth(revoke_role("u", "r")).unwrap();
    assert_eq!(run.read(), ["1 Denied(PermissionDenied)"]);
}

#[test]
fn watches_of_a_token_end_with_it_and_those_without_a_user_when_auth_is_enabled() {
    let mut machine = Machine::with_auth();
    machine.auth(permit("r", Type::Read, "a", "")).unwrap();
    let since = machine.state.view().auth().user("u").unwrap().since;
    let mut run = Watching::on(machine, user(since));
    assert_eq!(run.watch("a", ""), ["0 Created"]);
    run.auth(password("u", "other"));
    assert_eq!(run.read(), ["0 Denied(InvalidAuthToken)"]);

    let mut machine = Machine::with_auth();
    machine.auth(disable()).unwrap();
    let mut run = Watching::on(machine, Caller::Anonymous);
    assert_eq!(run.watch("a", ""), ["0 Created"]);
    run.auth(enable());
    assert_eq!(run.read(), ["0 Denied(UserEmpty)"]);
    assert_eq!(run.watch("a", "").len(), 1);
    let mut own = Watching::on(Machine::with_auth(), Caller::Member);
    assert_eq!(own.watch("a", "\0"), ["0 Created"]);
    own.auth(revoke_role("u", "r"));
    own.put("a");
    assert_eq!(own.read(), ["0 1 events"]);
}

/// A snapshot may bring a change of rights.
#[test]
fn a_snapshot_without_the_right_ends_the_watch() {
    let mut run = Watching::new(user(0));
    run.watch("a", "c");
    let mut other = Machine::with_auth();
    for _ in 0..30 {
        other.apply(requests::expire(1, vec![])).unwrap();
    }
    other.flush();
    let (rows, end) = super::snapshots::parts(other.state.capture().unwrap(), 1000);
    let copy = super::snapshots::install(rows, end).unwrap();
    run.hub.replace_view(copy.view());
    run.fan_out();
    assert_eq!(run.read(), ["0 Denied(PermissionDenied)"]);
}
