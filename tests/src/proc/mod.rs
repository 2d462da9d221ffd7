//! Real members as child processes on loopback: start, kill, stop, restart, and requests to them.
//!
//! The same code runs our binary and any etcd: both have the same flags and the same API. No
//! process outlives its owner: `Process` kills its child by pid when dropped, and the kernel kills
//! it if the owner itself is killed.

pub mod binary;
pub mod client;
pub mod cluster;
pub mod fleet;
pub mod member;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod usage;
