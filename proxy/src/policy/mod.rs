//! Which member gets a request, and what is done when it fails.
//!
//! `endpoints` chooses among the members that `members` discovers, `health_check` probes and `leader`
//! ranks; `attempts` is one request's way through them. `forward` sends a request by these rules, and
//! `read_your_writes` decides whether an answer is new enough. `watch` keeps v2 watches alive across
//! members. `outage` decides whether a request is held while no member is usable.

pub(crate) mod answer;
pub(crate) mod attempts;
pub(crate) mod coarse_timer;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod forward;
mod health_check;
mod leader;
mod log_throttle;
pub(crate) mod members;
mod outage;
pub(crate) mod read_your_writes;
pub(crate) mod subject;
pub(crate) mod watch;
