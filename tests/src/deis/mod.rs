//! A Deis platform of five hosts with the requests of its components: byte for byte where it
//! matters, with shorter pauses.
//!
//! Each component uses the member of its own host, as in Deis. Deis takes *any* failed read for
//! "the key does not exist" and then deletes repositories and databases, so no read may fail while
//! a member answers at all. `host` checks every reply for that, `components` are the clients,
//! `boot` kills members meanwhile, `verify` checks the final state.

pub mod boot;
pub mod components;
pub mod host;
pub mod ledger;
pub mod verify;
