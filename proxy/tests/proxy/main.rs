//! The proxy before fake members that misbehave on cue, and before real etcd.

#![allow(
    clippy::unwrap_used,
    reason = "all of this is tests; clippy looks only into the functions that are marked so"
)]

mod calls;
mod conformance;
mod failures;
mod forwarding;
mod gateway;
mod hostile;
mod hubs;
mod leader;
mod membership;
mod multiplexed;
mod newest;
mod plain;
#[path = "../../../tests/src/proc/ports.rs"]
#[expect(unreachable_pub, reason = "it is a library's module in keelson-tests")]
mod ports;
mod real;
mod renewal;
mod resumption;
mod sharing;
mod smuggling;
mod streams;
mod support;
mod terms;
mod tls;
mod tokens;
mod waits;
