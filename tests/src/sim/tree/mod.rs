//! The v2 tree in the simulator: its clients and watchers, the leader's expiries, and its checks.
//!
//! `log` has the agreed tree and compares the members' with it; `clients` and `draw` send requests;
//! `watchers` watch through `hub`, which is the core's; `expirer` carries out the decisions of the
//! core's expirer; `mistakes` has the mutants.

mod clients;
mod draw;
mod expirer;
mod finale;
mod hub;
mod log;
mod mistakes;
mod watched;
mod watchers;

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_core::MemberId;
use keelson_core::tree::NodeExtern;

use super::dice::Dice;
use super::swarm::Swarm;
use super::world::World;
use crate::check::tree::TreeHistory;

pub(super) use expirer::ExpirerShell;
pub(super) use hub::HubShell;
pub(super) use log::Log;
pub(super) use mistakes::forget_history;
pub(super) use mistakes::forget_rows;

/// 2026-01-01 in ns since 1970: the start of every simulation.
const BEGINNING_NS: i64 = 1_767_225_600_000_000_000;
const MS_NS: i64 = 1_000_000;

/// The v2 API's part of a world.
pub(super) struct TreeWorld {
    pub(super) log: Log,
    pub(super) history: TreeHistory,
    /// Clients that wait for an answer, by operation.
    open: BTreeMap<usize, u64>,
    watchers: Vec<watchers::Watcher>,
    /// The highest index that a member has shown in each incarnation.
    shown: BTreeMap<(MemberId, u64), u64>,
    /// What clients saw last at each path: the operand of compares.
    seen: BTreeMap<Bytes, NodeExtern>,
    /// The number of values written so far.
    values: u64,
    /// Nothing is expired any more.
    pub(super) still: bool,
}

impl Swarm {
    /// Draws the parameters of the v2 API, from dice that no other draw depends on.
    pub(super) fn draw_tree(&mut self, dice: &mut Dice) {
        if dice.chance(0.25) {
            return;
        }
        self.tree_clients = dice.between(1, self.clients);
        self.watchers = dice.between(0, 3);
        self.bursts = dice.chance(0.2);
        self.skew_ms = dice.pick(&[0, 20, 300]).expect("not empty");
        self.ttl_grace_ms = dice.pick(&[0, 500, 2_000, 5_000]).expect("not empty");
    }
}

impl TreeWorld {
    pub(super) fn new(swarm: &Swarm) -> TreeWorld {
        TreeWorld {
            log: Log::new(swarm.members),
            history: TreeHistory::default(),
            open: BTreeMap::new(),
            watchers: watchers::some(swarm.watchers),
            shown: BTreeMap::new(),
            seen: BTreeMap::new(),
            values: 0,
            still: false,
        }
    }
}

impl World {
    /// A member's clock, which deviates by a constant amount.
    pub(super) fn clock_ns(&self, id: MemberId) -> i64 {
        let most = i64::try_from(self.swarm.skew_ms).expect("a short time");
        // Members that join are not known when the run is drawn.
        let mixed = (id.0 ^ self.seed.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let skew_ms = (mixed >> 33) as i64 % (2 * most + 1) - most;
        let now_ms = i64::try_from(self.clock.now_ms()).expect("a short time");
        BEGINNING_NS + (now_ms + skew_ms) * MS_NS
    }

    /// The tree that a member shows never goes back during an incarnation, for all clients
    /// together: a change that one client has seen at a member is visible there to all.
    fn shows(&mut self, id: MemberId, index: u64) -> Result<(), String> {
        let life = (id, self.boot(id));
        let shown = self.tree.shown.entry(life).or_default();
        if index < *shown {
            return Err(format!(
                "v2 local reads: {id} shows index {index} after {shown} in one life"
            ));
        }
        *shown = index;
        Ok(())
    }
}
