//! The routes of the peer port, each with what a message of it may weigh.

use std::sync::Arc;

use keelson_proto::peer::peer_server::PeerServer;
use tonic::service::Routes;

use super::{Inbox, MESSAGE_BYTES_MAX, PeerService, QUESTION_BYTES_MAX, SnapshotSink};

/// The one call that needs no introduction.
const MEMBERS: &str = "/keelson_peer.Peer/Members";

/// Serves the other members, and strangers that ask for the members. What a stranger sends is held until
/// it has come whole, for each of thousands of calls: it has a bound of its own.
pub fn routes<I: Inbox, S: SnapshotSink>(service: PeerService<I, S>) -> Routes {
    let service = Arc::new(service);
    let server =
        |bytes_max| PeerServer::from_arc(Arc::clone(&service)).max_decoding_message_size(bytes_max);
    let mut routes = Routes::new(server(MESSAGE_BYTES_MAX));
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = router.route_service(MEMBERS, server(QUESTION_BYTES_MAX));
    routes
}
