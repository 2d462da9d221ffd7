//! One run of one seed, and its report.

use std::time::Duration;

use super::dice::Dice;
use super::mutant::Mutant;
use super::swarm::Swarm;
use super::tally::Tally;
use super::world::World;
use crate::check::tree::TreeHistory;
use crate::history::History;

/// The options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The seed, which determines the whole run.
    pub seed: u64,
    /// The duration of the faults in virtual seconds; the second phase is added to it.
    pub seconds: u64,
    /// Members have small memory bounds, independent of the seed.
    pub load: bool,
    /// A mutant to be caught.
    pub mutant: Option<Mutant>,
    /// Prints every event.
    pub trace: bool,
}

/// The figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Counts of what happened.
    pub tally: Tally,
    /// Operations of clients.
    pub operations: u64,
    /// Facts that the invariants checked.
    pub facts: u64,
    /// The duration in virtual time.
    pub virtual_time: Duration,
}

/// The failure of a run.
pub struct Failure {
    /// The property that does not hold.
    pub problem: String,
    /// The draws of the run.
    pub swarm: Swarm,
    /// The clients' history until the failure.
    pub history: History,
    /// The history of the v2 API's clients.
    pub tree_history: TreeHistory,
}

/// Runs a seed to its end or to the first failure.
///
/// # Errors
/// A property does not hold, or the cluster does not recover.
pub fn run(options: &Options) -> Result<Report, Box<Failure>> {
    let mut dice = Dice::new(options.seed);
    let mut swarm = Swarm::draw(&mut dice);
    swarm.draw_tree(&mut Dice::new(!options.seed));
    swarm.draw_leases(&mut Dice::new(options.seed.rotate_left(40)));
    swarm.draw_locks(&mut Dice::new(options.seed.rotate_left(56)));
    swarm.draw_auth(&mut Dice::new(options.seed.rotate_left(12)));
    match options.load {
        true => swarm.load(),
        false => swarm.draw_load(&mut Dice::new(options.seed.rotate_left(32))),
    }
    swarm.draw_pieces(&mut Dice::new(options.seed.rotate_left(48)));
    if swarm.tree_clients < swarm.clients {
        swarm
            .streams
            .draw(&mut Dice::new(options.seed.rotate_left(8)));
    }
    match options.mutant {
        Some(mutant) => swarm.aim_at(mutant),
        None => {
            swarm.draw_few(&mut Dice::new(options.seed.rotate_left(16)));
            swarm.draw_troubles(&mut Dice::new(options.seed.rotate_left(24)));
            swarm.draw_corruption(&mut Dice::new(options.seed.rotate_left(20)));
        }
    }
    run_swarm(options, swarm, dice)
}

fn run_swarm(options: &Options, swarm: Swarm, dice: Dice) -> Result<Report, Box<Failure>> {
    let drawn = swarm.clone();
    let mut world = World::new(options.seed, swarm, options.mutant, dice);
    world.trace = options.trace;
    let outcome = world.run_until(options.seconds * 1_000);
    let outcome = outcome.and_then(|()| world.finale());
    world.tally.expiries = world.tree.log.expiries;
    world.tally.expired_leases = world.leases.expired();
    world.tally.locks = world.locks.taken();
    world.tally.rights = world.auth.changes();
    let operations = world.history.operations.len() + world.tree.history.operations.len();
    match outcome {
        Ok(()) => Ok(Report {
            tally: world.tally,
            operations: operations as u64,
            facts: world.invariants.facts,
            virtual_time: Duration::from_millis(world.clock.now_ms()),
        }),
        Err(problem) => Err(Box::new(Failure {
            problem,
            swarm: drawn,
            history: world.history,
            tree_history: world.tree.history,
        })),
    }
}
