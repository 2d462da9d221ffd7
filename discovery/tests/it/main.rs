//! Discovery against the originals: etcd 3.4 with its v2 API, and Debian's etcd-discovery.

mod bounds;
mod client;
mod debian;
mod etcd;
mod faults;
mod hosts;
mod join;
#[path = "../../../tests/src/proc/ports.rs"]
#[expect(unreachable_pub, reason = "it is a library's module in keelson-tests")]
mod ports;
mod service;
mod tls;
mod troubles;
mod v3;
