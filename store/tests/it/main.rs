//! The library as embedded in a program: real files, real sockets on loopback. It is one binary, so
//! that it is linked once and its tests run in parallel.

mod auth;
mod embedded;
mod leases;
mod locks;
mod metrics;
mod snapshots;
mod tokens;
mod tree;
mod usage;
mod watches;
