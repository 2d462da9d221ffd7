//! Real members as child processes on loopback: start, kill, pause, restart, and talk to them.
//!
//! The same code drives our binary and any etcd: both take the same flags and speak the same API.
//! No process outlives its owner: `Process` ends its child by pid when dropped, and the kernel ends
//! it should the owner be killed itself.

pub mod binary;
pub mod client;
pub mod cluster;
pub mod fleet;
pub mod member;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod usage;
