//! The localhost proxy of hosts that are no members.
//!
//! So far it is the mode that flags choose; forwarding comes with its own issue. This crate may not
//! know the store: a proxy never becomes part of the quorum by accident.

mod mode;

pub use mode::{Mode, ModeError};
