//! Users, roles and rights in the simulator.
//!
//! `admin` changes them while faults happen, and enables and disables auth. The clients of the v3
//! API, and those that watch, are then users: `callers` checks and signs their requests as the
//! product does, and what became of them against the rights that were in force meanwhile. In some
//! runs the clients with leases and locks are users as well. `agreed` has the rights
//! after each entry, by the model (`keelson_model::auth`), and compares members with it. `watched`
//! checks what watches are sent, `mistakes` has the mutants.

mod admin;
mod agreed;
mod callers;
mod mistakes;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::MemberId;
use keelson_core::state::auth::Auth;

use super::dice::Dice;
use super::mutant::Mutant;
use super::swarm::Swarm;
use admin::Admin;
use agreed::Agreed;
use callers::{Call, Token};

pub(super) use callers::is_denial;
pub(super) use mistakes::forget_rows;

/// The auth part of a world.
pub(super) struct AuthWorld {
    agreed: Agreed,
    admin: Admin,
    /// Calls of clients without an answer, by operation.
    calls: BTreeMap<usize, Call>,
    /// The tokens of clients that have one.
    tokens: BTreeMap<u64, Token>,
    /// A key in each part of the key space that a range can distinguish.
    keys: Vec<Bytes>,
    /// The rights that members had when they were last compared, with the number of the log's and
    /// their digest.
    compared: BTreeMap<MemberId, (Arc<Auth>, usize, u64)>,
    /// What a finished operation has violated.
    pub(super) violation: Option<String>,
}

impl AuthWorld {
    pub(super) fn new() -> AuthWorld {
        let numbers = (0..10).flat_map(|number| {
            let key = format!("k{number}");
            [format!("{key}\0"), key]
        });
        // The last ones are within the queues of locks.
        let others = [
            "a", "l", "lock", "lock0", "lock0/~", "lock1", "lock1/~", "~",
        ];
        let others = others.map(str::to_owned);
        AuthWorld {
            agreed: Agreed::default(),
            admin: Admin::default(),
            calls: BTreeMap::new(),
            tokens: BTreeMap::new(),
            keys: numbers.chain(others).map(Bytes::from).collect(),
            compared: BTreeMap::new(),
            violation: None,
        }
    }

    /// How often rights were changed.
    pub(super) fn changes(&self) -> u64 {
        self.agreed.len()
    }
}

impl Swarm {
    /// Decides whether clients are users, from dice of its own; in some of these runs the holders
    /// of leases, if there are any, are users as well.
    pub(super) fn draw_auth(&mut self, dice: &mut Dice) {
        if dice.chance(0.2) && self.tree_clients < self.clients {
            self.users = dice.between(1, 3);
            if dice.chance(0.4) {
                self.leases = Default::default();
            }
        }
    }

    /// Rights change often, on members that lag behind.
    pub(super) fn aim_at_auth(&mut self, mutant: Mutant) {
        self.users = 2;
        (self.members, self.clients, self.keys) = (3, 8, 4);
        (self.think_ms, self.apply_ms, self.delay_ms) = (50, 50, 20);
        match mutant {
            Mutant::SnapshotWithoutAuth => {
                (self.crashes, self.membership, self.catch_up_entries) = (true, true, 5);
            }
            _ => (self.partitions, self.pauses, self.crashes) = (true, true, false),
        }
        (self.drop, self.straggle, self.slow_sync) = (0.0, 0.0, 0.0);
        self.fault_every_ms = (300, 1_500);
    }
}
