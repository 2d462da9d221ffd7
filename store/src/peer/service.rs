//! The routes of the peer port, each with a size limit for its messages.

use std::sync::Arc;

use keelson_proto::peer::peer_server::PeerServer;
use tonic::service::Routes;

use super::{Inbox, MEMBERS_REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX, PeerService, SnapshotSink};

/// The only call without an introduction.
const MEMBERS: &str = "/keelson_peer.Peer/Members";

/// Serves the other members, and any host that requests the member list. A request is held in
/// memory until it is complete, in each of thousands of calls, so this call has a small limit of
/// its own.
pub fn routes<I: Inbox, S: SnapshotSink>(service: PeerService<I, S>) -> Routes {
    let service = Arc::new(service);
    let server =
        |bytes_max| PeerServer::from_arc(Arc::clone(&service)).max_decoding_message_size(bytes_max);
    let mut routes = Routes::new(server(MESSAGE_BYTES_MAX));
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = router.route_service(MEMBERS, server(MEMBERS_REQUEST_BYTES_MAX));
    routes
}
