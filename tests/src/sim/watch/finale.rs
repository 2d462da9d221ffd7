//! The second phase for v3 watches.

use crate::sim::nodes::Life;
use crate::sim::world::World;

impl World {
    /// Every watch has been sent all of its events, and progress requests are answered.
    pub(in crate::sim) fn watches_are_complete(&mut self) -> Result<(), String> {
        self.deliver_the_rest()?;
        for number in 0..self.watches.streams.len() {
            // Without a member that runs there is nothing to be read.
            let Some(id) = self.member_of_stream(number) else {
                continue;
            };
            self.read_stream(number, u64::MAX)?;
            let revision = self
                .life(id)
                .map_or(0, |life| life.applier.view().revision());
            let log = &self.watches.log;
            let mut may_answer = true;
            for watch in self.watches.streams[number].watches.values() {
                watch.complete(revision, log)?;
                may_answer &= watch.next() <= revision + 1;
            }
            if !self.watches.streams[number].creating.is_empty() {
                return Err("liveness: a watch is not created".to_owned());
            }
            self.request_progress(number)?;
            self.read_stream(number, u64::MAX)?;
            if may_answer && self.waits_for_progress(number) {
                return Err("liveness: a progress request is not answered".to_owned());
            }
        }
        Ok(())
    }

    /// Members deliver what is left. After a snapshot that may be thousands of revisions, and with
    /// small steps the quiet time is too short for them.
    fn deliver_the_rest(&mut self) -> Result<(), String> {
        let is_behind = |life: &mut Life| life.watches.hub.is_behind();
        for id in self.running() {
            for _ in 0..=self.watches.log.revision() {
                if self.life(id).is_none_or(|life| !is_behind(life)) {
                    break;
                }
                self.fan_out(id)?;
            }
        }
        Ok(())
    }
}
