//! Real-process fault scenarios, shared by the tests and the soak binary.

pub mod backups;
pub mod distribution;
pub mod kill_two;
pub mod members;
pub mod verify;
pub mod watchers;
pub mod writers;
