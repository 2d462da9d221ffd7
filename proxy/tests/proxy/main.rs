//! The proxy before fake members that misbehave on cue, and before real etcd.

mod calls;
mod failures;
mod forwarding;
mod gateway;
mod membership;
mod real;
mod support;
mod waits;
