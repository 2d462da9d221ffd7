//! From the peer port to the driver's queue, bounded.

use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::node::Input;
use keelson_proto::peer::{MembersResponse, PeerMessage};

use super::driver::Event;
use super::turns::Turns;
use crate::peer::{Inbox, PeerEvent, PeerListener};
use crate::shared::Shared;

/// Messages from peers that wait for the driver. Beyond it they are dropped; Raft sends again.
const WAITING_MAX: usize = 100_000;

pub(crate) struct DriverInbox {
    pub(crate) turns: Arc<Turns>,
    pub(crate) shared: Arc<Shared>,
}

impl Inbox for DriverInbox {
    fn deliver(&self, from: MemberId, messages: Vec<PeerMessage>) {
        if self.shared.note_arrived(messages.len()) <= WAITING_MAX {
            let _ = self.turns.send(Event::Peer(from, messages));
        } else {
            self.shared.note_taken(messages.len());
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
