//! From the peer port to the driver's queue, bounded.

use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::node::Input;
use keelson_proto::peer::{MembersResponse, PeerMessage};

use super::driver::Event;
use super::turns::Turns;
use crate::peer::{Inbox, PeerEvent, PeerListener, weight};
use crate::shared::Shared;

/// What messages from peers that wait for the driver may weigh, in bytes. Beyond it they are dropped;
/// Raft sends again.
const WAITING_BYTES_MAX: usize = 128 << 20;

pub(crate) struct DriverInbox {
    pub(crate) turns: Arc<Turns>,
    pub(crate) shared: Arc<Shared>,
}

impl Inbox for DriverInbox {
    fn deliver(&self, from: MemberId, messages: Vec<PeerMessage>) {
        let bytes = messages.iter().map(weight).sum();
        let before = self.shared.note_arrived(bytes);
        if before == 0 || before + bytes <= WAITING_BYTES_MAX {
            let _ = self.turns.send(Event::Peer(from, messages, bytes));
        } else {
            self.shared.note_taken(bytes);
        }
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.shared.view().removed(member.0)
    }

    fn members(&self) -> MembersResponse {
        MembersResponse {
            cluster_id: self.shared.cluster.0,
            members: self.shared.view().members(),
        }
    }
}

/// What the links report, as the node wants to hear it.
pub(crate) fn listener(turns: Arc<Turns>, shared: Arc<Shared>) -> PeerListener {
    Arc::new(move |event| {
        let input = match event {
            PeerEvent::Down(peer) => Input::PeerDown(peer),
            PeerEvent::Up(peer) => Input::PeerUp(peer),
            PeerEvent::Lost(peer) => Input::Unreachable(peer),
            PeerEvent::Removed => return shared.note_removed(),
        };
        let _ = turns.send(Event::Input(input));
    })
}
