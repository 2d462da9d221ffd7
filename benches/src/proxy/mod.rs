//! Proxies: what a cluster feels of them, what they add to a request, what they hold in memory.
//!
//! `claim` puts proxies, and then members, beside a cluster of three; `added` sends the same
//! requests to the members and through each kind of proxy; `memory` opens idle connections and
//! watches.

pub mod added;
pub mod background;
pub mod claim;
pub mod claim_report;
pub mod front;
pub mod load;
pub mod memory;
pub mod plan;
pub mod run;

pub use run::run;
