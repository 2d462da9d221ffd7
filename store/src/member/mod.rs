//! One member at work: the threads behind a `Store`, and what they share.
//!
//! Four threads, each the only owner of its state, joined by queues:
//!
//! | thread | owns | does |
//! |---|---|---|
//! | driver (`driver.rs`) | `keelson_core::node::Node` | decides: one `Node::step` a turn |
//! | log (`log_writer.rs`) | the write-ahead log | makes a turn's appends durable, then lets go of what waited for it |
//! | apply (`applier.rs`) | `keelson_core::state::StateMachine` | applies what is committed, answers requests and reads |
//! | flush (`flusher.rs`) | nothing | writes the state machine's overlay into the engine |
//!
//! Only the driver calls `Node::step`. A fatal error on any of them ends the member (`fatal.rs`): a
//! restart recovers, going on might not.

pub(crate) mod applier;
pub(crate) mod driver;
pub(crate) mod fatal;
pub(crate) mod flusher;
pub(crate) mod inbox;
pub(crate) mod join;
pub(crate) mod log_writer;
pub(crate) mod recover;
pub(crate) mod staging;
pub(crate) mod waiters;
