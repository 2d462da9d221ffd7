//! Which member gets a request, and what is done when it fails.
//!
//! `answer` is the one way from a request to its answer, for all protocols. `forward` sends a
//! request by the rules of `attempts`, the retry policy; `watch` keeps v2 watches alive across
//! members, `resumption` v3's watches and keepalives, and `read_your_writes` and `terms` decide
//! whether an answer is new enough. `endpoints` chooses a member: `members` fetches the member
//! list, `health_check` probes each member, and `leader` holds which one leads. `outage` decides
//! whether a request is held while no member is usable. Nothing here depends on how HTTP frames a
//! message.

pub(crate) mod answer;
pub(crate) mod attempts;
mod change_throttle;
pub(crate) mod coarse_timer;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod forward;
mod health_check;
mod leader;
pub(crate) mod mark;
pub(crate) mod members;
mod outage;
pub(crate) mod read_your_writes;
pub(crate) mod resumption;
pub(crate) mod shared_log;
pub(crate) mod subject;
pub(crate) mod terms;
pub(crate) mod watch;
