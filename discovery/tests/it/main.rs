//! Discovery against the real thing: etcd 3.4 with its v2 API, and Debian's etcd-discovery.

mod client;
mod debian;
mod etcd;
mod faults;
mod hosts;
mod join;
mod service;
mod tls;
mod troubles;
mod v3;
