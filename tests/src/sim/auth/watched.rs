//! Watches of users: which may be created, when they must end, and what they may be sent.

use keelson_core::state::auth::{Access, Caller};
use keelson_core::{Index, MemberId};
use keelson_model::auth::Asked;
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use crate::sim::mutant::Mutant;
use crate::sim::world::World;

/// The numbers of clients with streams, among those of all clients.
const STREAMS_FROM: u64 = 1_000;

impl World {
    /// The origin of a client's new stream at a member.
    pub(in crate::sim) fn stream_caller(&mut self, member: MemberId, number: usize) -> Caller {
        if self.swarm.users == 0 {
            return Caller::Member;
        }
        let client = STREAMS_FROM + number as u64;
        self.log_in(client);
        self.caller_at(member, client)
    }

    /// The origin by which a member checks a stream.
    pub(in crate::sim) fn checked_caller(&self, caller: &Caller) -> Caller {
        match self.mutant {
            Some(Mutant::WatchOutlivesRights) => Caller::Member,
            _ => caller.clone(),
        }
    }

    /// Whether a watch must be refused when it is created at a member.
    ///
    /// # Errors
    /// The member has other rights than the log.
    pub(in crate::sim) fn watch_is_denied(
        &self,
        member: MemberId,
        caller: &Caller,
        request: &WatchCreateRequest,
    ) -> Result<bool, String> {
        let life = self.members.get(&member).and_then(|it| it.life.as_ref());
        let Some(life) = life.filter(|_| self.swarm.users != 0) else {
            return Ok(false);
        };
        let asked = Asked::Watch(&request.key, &request.range_end);
        let rights = self.auth.agreed.at(life.applied().0);
        let expected = self.auth.check(rights, caller, &asked);
        let found = life
            .applier
            .view()
            .authorize(caller, Access::watch(request));
        match expected.is_ok() == found.is_ok() {
            true => Ok(expected.is_err()),
            false => Err(format!(
                "auth: {member} has {found:?} for {request:?} of {caller:?}, not {expected:?}"
            )),
        }
    }

    /// A watch of a stream is sent a message: the rights in force explain it. Returns whether the
    /// message ends the watch for a lack of rights.
    pub(in crate::sim) fn check_watched(
        &self,
        (member, from): (MemberId, Index),
        caller: &Caller,
        request: &WatchCreateRequest,
        response: &WatchResponse,
    ) -> Result<bool, String> {
        let life = self.members.get(&member).and_then(|it| it.life.as_ref());
        let Some(life) = life.filter(|_| self.swarm.users != 0) else {
            return Ok(false);
        };
        let applied = life.applied().0;
        let asked = Asked::Watch(&request.key, &request.range_end);
        let agreed = &self.auth.agreed;
        let is_denial = response.canceled && !response.cancel_reason.is_empty();
        if is_denial {
            let mut rights = agreed.between(from.0, applied);
            return match rights.any(|of| self.auth.check(of, caller, &asked).is_err()) {
                true => Ok(true),
                false => Err(format!("auth: {request:?} of {caller:?} got {response:?}")),
            };
        }
        for event in &response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let mut rights = agreed.between(agreed.entry_of(revision), applied);
            if !rights.any(|of| self.auth.check(of, caller, &asked).is_ok()) {
                return Err(format!(
                    "auth: {caller:?} is sent {event:?} after its right to {request:?} has ended"
                ));
            }
        }
        Ok(false)
    }
}
