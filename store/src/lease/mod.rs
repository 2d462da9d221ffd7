//! Leases of a `Store`: the task around the core's lessor, the requests, and a lease that keeps
//! itself alive.

mod handle;
mod inbox;
pub(crate) mod lessor;
mod requests;

pub(crate) use handle::Confirmed;
pub use handle::Lease;
pub(crate) use inbox::LessorInbox;
pub use requests::LeaseTimes;
