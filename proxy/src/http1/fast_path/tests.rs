//! The memory that a request takes while its member is waited for.

use super::*;
use crate::config::{MembersFrom, ProxyConfig};

/// Both futures of a request, in bytes. A burst of thousands of requests takes this of the heap for
/// each.
const IN_FLIGHT_BYTES_MAX: usize = 1536;

#[tokio::test]
async fn a_request_in_flight_takes_little() {
    let config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    let context = Arc::new(Context::new(config, vec![]));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = b"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n";
    let parsed = request::parse(head, &context, address).unwrap();
    let in_flight = start(&context, Request::new(&context, parsed, head));
    let inner = size_of_val(&*in_flight.answer);
    let outer = size_of_val(&respond(&mut socket, in_flight));
    assert!(inner + outer <= IN_FLIGHT_BYTES_MAX, "{inner} + {outer}");
}
