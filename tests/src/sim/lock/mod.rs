//! Locks in the simulator: the holders of leases contend for them, and two that hold one lock at
//! one time are a violation.
//!
//! `contenders` are the clients, which give calls up, repeat them and end their sessions. `calls`
//! is a member's Lock service; its requests and decisions are the core's `lock`. `held` has the
//! sessions with a lock. A session holds one from the answer until it sends its unlock, or until
//! the time up to which its client may rely on the lease: its time to live after the last renewal
//! that was answered was sent, less the drift of clocks. Some calls have no lease: their member
//! creates a session for them (`own`), and keeps it alive while they wait. In some runs the locks
//! are elections (`election`), with `observers`.

mod calls;
mod contenders;
mod election;
mod held;
mod observers;
mod own;
mod undo;
mod wakes;

use std::collections::BTreeMap;

use super::dice::Dice;
use super::lease::LeaseKey;
use super::swarm::Swarm;
use calls::Call;
use contenders::Contender;
use held::Held;
use observers::Observer;

/// What happens to a call at its member.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallEvent {
    /// A contender calls for a lock, both by their numbers, with that lease; 0: with a session of
    /// the call's own.
    Arrives {
        contender: usize,
        lock: u64,
        lease: i64,
    },
    /// The client is gone.
    Cancelled,
    /// A watch may have a message.
    Woken,
    /// The session of a call that waits is renewed.
    Renews,
    /// The step with that number has lasted too long.
    Overdue(u64),
    /// The place is given up again.
    GivesUp,
}

/// The locks' part of a world.
pub(super) struct LockWorld {
    contenders: Vec<Contender>,
    /// By number; numbers of calls and of unlocks are one series.
    calls: BTreeMap<u64, Call>,
    held: Held,
    observers: Vec<Observer>,
    /// When calls that had created a session were answered or given up.
    ended: Vec<(LeaseKey, u64)>,
    last_number: u64,
}

impl LockWorld {
    pub(super) fn new(swarm: &Swarm) -> LockWorld {
        let contenders = match swarm.leases.locks {
            0 => 0,
            _ => swarm.leases.clients,
        };
        let observers = if swarm.leases.elections { 2 } else { 0 };
        LockWorld {
            contenders: (0..contenders).map(|_| Contender::default()).collect(),
            calls: BTreeMap::new(),
            held: Held::default(),
            observers: (0..observers).map(|_| Observer::default()).collect(),
            ended: Vec::new(),
            last_number: 0,
        }
    }

    /// The number of contenders.
    pub(super) fn len(&self) -> usize {
        self.contenders.len()
    }

    /// The number of observers.
    pub(super) fn observers(&self) -> usize {
        self.observers.len()
    }

    /// How often a lock was taken.
    pub(super) fn taken(&self) -> u64 {
        self.held.taken
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Swarm {
    /// Decides whether the holders of leases contend for locks, from dice of its own.
    pub(super) fn draw_locks(&mut self, dice: &mut Dice) {
        if self.leases.clients != 0 && dice.chance(0.5) {
            self.leases.clients = dice.between(2, 5);
            self.leases.locks = dice.pick(&[1, 1, 2]).expect("not empty");
            self.leases.elections = dice.chance(0.5);
        }
    }

    /// Many sessions wait for one lock, and end while they wait.
    pub(super) fn aim_at_locks(&mut self) {
        self.aim_at_leases();
        self.leases.locks = 1;
    }
}
