//! Leases in the simulator: clients that grant, renew and revoke them and attach keys, the leader's
//! lessor, and the checks.
//!
//! `holders` send requests; `shell` carries out the decisions of the core's lessor, on clocks that
//! drift; `agreed` has the leases that the log has determined, and what clients were promised.

mod agreed;
mod holders;
mod shell;

use std::collections::BTreeMap;

use keelson_core::MemberId;

use super::dice::Dice;
use super::swarm::Swarm;
use agreed::Agreed;
use holders::Holder;

pub(super) use agreed::{LeaseKey, is_attachable, replay};
pub(super) use shell::LessorShell;

/// The most that a member's clock deviates from the true rate, in thousandths.
const DRIFT_MAX: u64 = 20;

/// Which leases a run has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leases {
    /// The number of clients that hold leases, beside the others.
    pub clients: u64,
    /// The extension that a new leader gives to every lease.
    pub extension_ms: u64,
    /// The number of locks that they contend for.
    pub locks: u64,
    /// The locks are elections.
    pub elections: bool,
}

/// The origin of a renewal.
#[derive(Clone, Copy, Debug)]
pub(super) enum RenewalOf {
    /// A holder, for its operation with this number.
    Holder(usize, u64),
    /// A call for a lock, by its number.
    Call(u64),
}

/// The leases' part of a world.
pub(super) struct LeaseWorld {
    agreed: Agreed,
    holders: Vec<Holder>,
    /// Renewals that wait at a member's lessor, by member, incarnation and number.
    renewals: BTreeMap<(MemberId, u64, u64), RenewalOf>,
    last_number: u64,
    /// Nothing is proposed any more.
    pub(super) still: bool,
}

impl Swarm {
    /// Draws the clients with leases, from dice of their own.
    pub(super) fn draw_leases(&mut self, dice: &mut Dice) {
        if dice.chance(0.4) {
            self.leases.clients = dice.between(1, 4);
            self.leases.extension_ms = dice.pick(&[0, 500, 2_000]).expect("not empty");
        }
    }

    /// A leader often stops while others are elected, and goes on.
    pub(super) fn aim_at_leases(&mut self) {
        (self.leases.clients, self.leases.extension_ms) = (6, 0);
        (self.pauses, self.partitions, self.crashes) = (true, false, false);
        (self.members, self.membership, self.clients) = (3, false, 2);
        (self.heartbeat_ms, self.election_ms) = (30, 300);
        (self.patience_ms, self.think_ms) = (6_000, 200);
        self.fault_every_ms = (300, 1_200);
    }
}

impl LeaseWorld {
    pub(super) fn new(swarm: &Swarm) -> LeaseWorld {
        LeaseWorld {
            agreed: Agreed::default(),
            holders: (0..swarm.leases.clients).map(Holder::new).collect(),
            renewals: BTreeMap::new(),
            last_number: 0,
            still: false,
        }
    }

    /// The last lease of that id.
    pub(super) fn last(&self, id: i64) -> Option<LeaseKey> {
        self.agreed.last(id)
    }

    /// Whether the lease exists after the last committed entry.
    pub(super) fn is_alive(&self, lease: LeaseKey) -> bool {
        self.agreed.is_alive(lease)
    }

    /// A request that was sent at that time gave the lease its whole time to live, in seconds.
    ///
    /// # Errors
    /// The lease has expired before.
    pub(super) fn promise(&mut self, lease: LeaseKey, sent: u64, ttl: i64) -> Result<(), String> {
        self.agreed.promise(lease, sent, ttl)
    }

    /// Until when a client may rely on a lease, in true milliseconds.
    pub(super) fn promised(&self, lease: LeaseKey) -> u64 {
        self.agreed.promised(lease)
    }

    /// The lease that a client holds, and is not about to end.
    pub(super) fn session(&self, number: usize) -> Option<LeaseKey> {
        self.holders.get(number)?.session()
    }

    /// The number of leases that have expired.
    pub(super) fn expired(&self) -> u64 {
        self.agreed.expired
    }
}
