//! A Deis platform of five hosts, as its components talk to etcd: the requests are theirs, byte for
//! byte where it matters, only their pauses are shorter.
//!
//! Each component sticks to the member of its own host, as in Deis. Deis takes *any* failed read
//! for "the key does not exist" and then deletes repositories and databases, so no read may fail
//! while a member answers at all: `host` holds every reply to that, `components` are who asks,
//! `boot` kills members meanwhile, `verify` looks at what is left.

pub mod boot;
pub mod components;
pub mod host;
pub mod ledger;
pub mod verify;
