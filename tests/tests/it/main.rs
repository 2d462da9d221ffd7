//! All tests from outside: real processes beside real etcds, and the simulator. They are one
//! binary, so that it is linked once and its tests run concurrently: most of them wait for a
//! process.

mod bring_up;
mod buckets;
mod chaos;
mod deis_boot;
mod differential;
mod differential_v2;
mod etcdctl;
mod etcdctl_v2;
mod exports;
mod follows;
mod hostile_v2;
mod hostile_v3;
mod imports;
mod jwt;
mod node_etcd;
mod python_etcd;
mod python_v3;
mod rust_client;
mod sim;
mod snapshots;
mod tls;
mod wgl_golden;
