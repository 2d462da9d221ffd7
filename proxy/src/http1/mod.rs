//! HTTP/1.1, towards clients and members.
//!
//! `fast_path` answers most requests on the client's bare socket; `hyper` answers the others.
//! `request` is a request as members receive it, `exchange` sends it over one connection of
//! `client` and reads the head of the answer, `body` is the body that follows, and `raft_term` the
//! term in either.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod fast_path;
pub(crate) mod fetch;
pub(crate) mod fuzzing;
pub(crate) mod headers;
pub(crate) mod hyper;
mod raft_term;
pub(crate) mod request;
pub(crate) mod request_head;
