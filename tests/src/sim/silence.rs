//! The silence that a leader must have noticed: it adds no member while a voter is silent.

use keelson_core::node::{Append, Role};
use keelson_core::{EntryKind, MemberId, proposal};
use keelson_proto::internal::MemberChange;
use keelson_proto::internal::member_change::Op;
use prost::Message;

use super::nodes::Member;
use super::world::World;

/// A voter that was silent for so many election timeouts is not healthy, as in the core.
const SILENCE_ELECTIONS: u64 = 3;

impl Member {
    /// Since when it has sent nothing; none if it runs.
    fn silent_since(&self, now_ms: u64) -> Option<u64> {
        let silent = self.life.is_none() || now_ms < self.paused_until;
        silent.then_some(self.silent_since)
    }
}

impl World {
    /// A member's process dies or stops.
    pub(super) fn note_silence(&mut self, id: MemberId) {
        let now = self.clock.now_ms();
        if let Some(member) = self.members.get_mut(&id)
            && member.silent_since(now).is_none()
        {
            member.silent_since = now;
        }
    }

    /// A new leader starts without contact to the others: contact before its election does not
    /// count.
    pub(super) fn note_role(&mut self, id: MemberId, role: Role) {
        let now = self.clock.now_ms();
        if let Some(life) = self.life(id) {
            life.leads_since = (role == Role::Leader).then_some(now);
        }
    }

    /// Checks that every voter could have reached the leader that adds a member recently enough.
    pub(super) fn check_adds(&mut self, id: MemberId, append: &Append) -> Result<(), String> {
        if self.calm || !self.swarm.strict_reconfig_check || !append.entries.iter().any(is_add) {
            return Ok(());
        }
        let (now, late_ms) = (self.clock.now_ms(), self.latest_ms());
        let Some(leader) = self.members.get(&id) else {
            return Ok(());
        };
        let life = leader.life.as_ref();
        let Some((life, elected)) = life.and_then(|life| Some((life, life.leads_since?))) else {
            return Ok(());
        };
        let lately = now.saturating_sub(SILENCE_ELECTIONS * self.swarm.election_ms);
        for voter in life.consensus.voters().iter().filter(|voter| **voter != id) {
            let since = match self.members.get(voter) {
                Some(member) => member.silent_since(now),
                None => Some(0),
            };
            // Messages that wait for a stopped leader are received when it goes on.
            let heard = since.map(|since| since.max(leader.paused_until) + late_ms);
            if heard.is_some_and(|heard| heard < elected.max(lately)) {
                return Err(format!(
                    "{id}, the leader since {elected} ms, adds a member while {voter} has been \
                     silent since {since:?} ms"
                ));
            }
        }
        Ok(())
    }

    /// The largest delay of a message. A second copy of it is not accepted.
    fn latest_ms(&self) -> u64 {
        self.swarm.delay_ms.max(self.swarm.straggle_ms) + 10
    }
}

fn is_add(entry: &keelson_core::Entry) -> bool {
    let change = match entry.kind {
        EntryKind::Membership => proposal::decode(&entry.context),
        EntryKind::Command => None,
    };
    let change = change.and_then(|(_, change)| MemberChange::decode(change).ok());
    matches!(
        change,
        Some(MemberChange {
            op: Some(Op::Add(_))
        })
    )
}
