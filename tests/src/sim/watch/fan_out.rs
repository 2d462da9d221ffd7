//! A member's task that delivers new revisions to its streams.

use std::sync::Arc;

use keelson_core::MemberId;
use keelson_core::member::Applier;
use keelson_core::watch::WatchHub;

use crate::sim::event::Event;
use crate::sim::mutant::Mutant;
use crate::sim::swarm::Swarm;
use crate::sim::world::World;

/// A process's hub of v3 watches.
pub(in crate::sim) struct WatchShell {
    pub(in crate::sim) hub: Arc<WatchHub>,
    /// The task is about to run.
    planned: bool,
}

impl WatchShell {
    pub(in crate::sim) fn new(applier: &Applier, swarm: &Swarm, mutant: Option<Mutant>) -> Self {
        let hub = match mutant {
            // A hub that the applier neither waits for nor gives the view of a snapshot.
            Some(Mutant::EventLostAtCompaction | Mutant::SnapshotUnseenByWatches) => {
                WatchHub::with_limits(applier.view().clone(), swarm.streams.limits())
            }
            _ => Arc::clone(applier.watches()),
        };
        WatchShell {
            hub,
            planned: false,
        }
    }
}

impl World {
    /// A member has applied entries or installed a snapshot: its fan-out goes on.
    pub(in crate::sim) fn plan_fan_out(&mut self, id: MemberId) {
        if self.swarm.streams.clients == 0 && self.swarm.leases.locks == 0 {
            return;
        }
        let Some(life) = self.life(id) else {
            return;
        };
        if life.watches.hub.is_behind() && !std::mem::replace(&mut life.watches.planned, true) {
            let boot = life.log.boot();
            let delay = self.dice.between(0, self.swarm.streams.fan_out_ms);
            self.clock.after(delay, Event::FanOut(id, boot));
        }
    }

    /// The fan-out makes one step.
    pub(in crate::sim) fn fan_out(&mut self, id: MemberId) -> Result<(), String> {
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        life.watches.planned = false;
        let more = life.watches.hub.fan_out();
        let more = more.map_err(|error| format!("{id} cannot read events: {error}"))?;
        if more != life.watches.hub.is_behind() {
            return Err(format!(
                "v3 watch: {id}: the fan-out's end is not the hub's"
            ));
        }
        self.wake_calls(id);
        self.plan_fan_out(id);
        Ok(())
    }

    /// A snapshot was installed. The applier has given its view to its own hub.
    pub(in crate::sim) fn watches_see_snapshot(&mut self, id: MemberId) {
        let separate = self.mutant == Some(Mutant::EventLostAtCompaction);
        if let Some(life) = self.life(id)
            && separate
        {
            let view = life.applier.view().clone();
            life.watches.hub.replace_view(view);
        }
        self.plan_fan_out(id);
    }
}
