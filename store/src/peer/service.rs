//! The routes of the peer port, each with a size limit for its messages.

use std::sync::Arc;

use keelson_proto::peer::peer_server::PeerServer;
use tonic::service::Routes;

use super::{Inbox, MEMBERS_REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX, PeerService, SnapshotSink};

/// The calls without an introduction.
const UNINTRODUCED: [&str; 2] = ["/keelson_peer.Peer/Members", "/keelson_peer.Peer/HashKv"];

/// Serves the other members, and any host that requests the member list or a hash. A request is
/// held in memory until it is complete, in each of thousands of calls, so these calls have a small
/// limit of their own.
pub fn routes<I: Inbox, S: SnapshotSink>(service: PeerService<I, S>) -> Routes {
    let service = Arc::new(service);
    let server =
        |bytes_max| PeerServer::from_arc(Arc::clone(&service)).max_decoding_message_size(bytes_max);
    let mut routes = Routes::new(server(MESSAGE_BYTES_MAX));
    for path in UNINTRODUCED {
        let router = std::mem::take(routes.axum_router_mut());
        let small = server(MEMBERS_REQUEST_BYTES_MAX);
        *routes.axum_router_mut() = router.route_service(path, small);
    }
    routes
}
