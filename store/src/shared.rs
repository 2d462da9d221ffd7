//! The state that the threads of a member share with its edges.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use keelson_core::member::{Membership, Peers};
use keelson_core::node::{NodeStatus, SoftState};
use keelson_core::state::ReadView;
use keelson_core::{ClusterId, Index, MemberId, Millis};
use keelson_proto::etcdserverpb::Member;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::config::Url;
use crate::jobs::Jobs;
use crate::member::traffic::Traffic;
use crate::peer::PeerAddress;

/// Shared by the worker, the peer port and every request. Each lock is held for moments and never
/// across an await.
pub(crate) struct Shared {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    /// Replaced as a whole when a snapshot replaces the state machine.
    view: RwLock<ReadView>,
    soft_state: watch::Sender<SoftState>,
    /// The leader without the term, so that its waiters do not wake at each term without a leader.
    leader: watch::Sender<MemberId>,
    applied: watch::Sender<Index>,
    removed: watch::Sender<bool>,
    node: Mutex<NodeStatus>,
    /// The term for clients. It never decreases.
    term: AtomicU64,
    /// When this member learned of the present leader.
    leader_elected: Mutex<Option<Instant>>,
    peers: RwLock<Peers<PeerAddress>>,
    /// Whether this member is a learner. An atomic, since every request reads it.
    learner: AtomicBool,
    /// The size of peer messages that wait for a round, in bytes.
    waiting: AtomicUsize,
    /// The number of v2 nodes that have expired since the start.
    expired: AtomicU64,
    /// The number of leaders seen since the start.
    leader_changes: AtomicU64,
    /// The Raft traffic between members.
    pub(crate) traffic: Traffic,
    /// What else holds the storage engine while the member runs.
    pub(crate) jobs: Jobs,
}

impl Shared {
    pub(crate) fn new(
        cluster: ClusterId,
        member: MemberId,
        view: ReadView,
        node: NodeStatus,
    ) -> Shared {
        let shared = Shared {
            cluster,
            member,
            soft_state: watch::Sender::new(node.soft_state),
            leader: watch::Sender::new(node.soft_state.leader),
            applied: watch::Sender::new(view.applied_index()),
            // A member that was removed before this start stops without contacting a peer.
            removed: watch::Sender::new(view.removed(member.0)),
            term: AtomicU64::new(node.shown_term.0),
            node: Mutex::new(node),
            leader_elected: Mutex::new(None),
            peers: RwLock::new(Peers::new(member)),
            learner: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            expired: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            traffic: Traffic::default(),
            jobs: Jobs::default(),
            view: RwLock::new(view.clone()),
        };
        shared.note_members(&view);
        shared
    }

    pub(crate) fn view(&self) -> ReadView {
        self.view.read().clone()
    }

    pub(crate) fn replace_view(&self, view: ReadView) {
        *self.view.write() = view;
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        *self.soft_state.borrow()
    }

    pub(crate) fn watch_soft_state(&self) -> watch::Receiver<SoftState> {
        self.soft_state.subscribe()
    }

    pub(crate) fn watch_leader(&self) -> watch::Receiver<MemberId> {
        self.leader.subscribe()
    }

    pub(crate) fn note_soft_state(&self, soft_state: SoftState) {
        self.leader.send_if_modified(|leader| {
            std::mem::replace(leader, soft_state.leader) != soft_state.leader
        });
        let before = self.soft_state.send_replace(soft_state);
        if soft_state.leader != MemberId::NONE && before.leader != soft_state.leader {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
            *self.leader_elected.lock() = Some(Instant::now());
        }
    }

    /// The number of leaders seen since the start.
    pub(crate) fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// When this member learned of the present leader; `None` if there was none since the start.
    pub(crate) fn leader_elected(&self) -> Option<Instant> {
        *self.leader_elected.lock()
    }

    pub(crate) fn watch_applied(&self) -> watch::Receiver<Index> {
        self.applied.subscribe()
    }

    pub(crate) fn note_applied(&self, index: Index) {
        self.applied.send_replace(index);
    }

    pub(crate) fn watch_removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    pub(crate) fn note_removed(&self) {
        self.removed.send_replace(true);
    }

    pub(crate) fn node(&self) -> NodeStatus {
        *self.node.lock()
    }

    pub(crate) fn note_node(&self, status: NodeStatus) {
        self.term.fetch_max(status.shown_term.0, Ordering::Release);
        *self.node.lock() = status;
    }

    /// The term for clients: durable, and at least that of every applied entry. An answer must read
    /// the state first and the term then.
    pub(crate) fn shown_term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Whether this member is a learner.
    pub(crate) fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Relaxed)
    }

    /// Every member except this one.
    pub(crate) fn peers(&self) -> Vec<PeerAddress> {
        let peers = self.peers.read();
        peers.all().map(|(_, address)| address.clone()).collect()
    }

    /// The membership of an id: member, removed or unknown. Called for every envelope of a peer.
    pub(crate) fn membership_of(&self, member: MemberId) -> Membership {
        self.peers.read().of(member)
    }

    /// The URLs of a peer; empty for an unknown id.
    pub(crate) fn peer_urls(&self, member: MemberId) -> Vec<Url> {
        let peers = self.peers.read();
        let found = peers.address(member);
        found.map(|peer| peer.urls.clone()).unwrap_or_default()
    }

    /// Updates the copies of the members after a membership change was applied.
    pub(crate) fn note_members(&self, view: &ReadView) {
        let roster = view.roster();
        let own = roster.members.get(&self.member.0);
        let is_learner = own.is_some_and(|own| own.is_learner);
        self.learner.store(is_learner, Ordering::Relaxed);
        self.peers.write().apply(&roster, address_of);
    }

    /// Records a call from an unknown member. Returns whether to request the other members' lists.
    pub(crate) fn note_unknown(&self, now: Millis) -> bool {
        self.peers.write().should_request(now)
    }

    /// Records the members that the other members report. Returns whether the links must be
    /// updated.
    pub(crate) fn note_reported(&self, members: &[Member]) -> bool {
        self.peers.write().report(members, address_of)
    }

    /// Adds the bytes of messages that have arrived. Returns the bytes that waited before.
    pub(crate) fn note_arrived(&self, bytes: usize) -> usize {
        self.waiting.fetch_add(bytes, Ordering::Relaxed)
    }

    /// Subtracts the bytes of messages that a round has taken.
    pub(crate) fn note_taken(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts an expired node of the v2 tree.
    pub(crate) fn note_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of v2 nodes that have expired since the start.
    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }
}

fn address_of(member: &Member) -> PeerAddress {
    let urls = member.peer_ur_ls.iter();
    PeerAddress {
        id: MemberId(member.id),
        name: member.name.clone(),
        urls: urls.filter_map(|url| Url::parse(url).ok()).collect(),
    }
}
