//! The rights as the log has determined them, and the members' own.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::state::auth::{Auth, Caller};
use keelson_core::state::{Error, Response};
use keelson_core::{Index, MemberId};
use keelson_model::auth::{self as model, Asked, By, Denial};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{AsUser, auth_change};

use super::{AuthWorld, is_denial};
use crate::sim::world::World;

/// The rights after every committed entry.
pub(super) struct Agreed {
    /// By the entries that have changed them, in order.
    states: Vec<(u64, model::Auth)>,
    /// Which entries have changed rights, or were refused.
    changes: BTreeMap<u64, bool>,
    /// The entry of each revision of KV, from 2 on.
    written: Vec<u64>,
    /// The entries that their callers were not permitted.
    denied: BTreeSet<u64>,
    /// The last entry with a change that was acknowledged.
    pub(super) acknowledged: u64,
}

impl Default for Agreed {
    fn default() -> Agreed {
        Agreed {
            states: vec![(0, model::Auth::default())],
            changes: BTreeMap::new(),
            written: Vec::new(),
            denied: BTreeSet::new(),
            acknowledged: 0,
        }
    }
}

impl Agreed {
    /// The number of changes.
    pub(super) fn len(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// The rights after the last committed entry.
    pub(super) fn last(&self) -> &model::Auth {
        &self.states.last().expect("never empty").1
    }

    /// The rights after that entry.
    pub(super) fn at(&self, index: u64) -> &model::Auth {
        &self.states[self.number_at(index)].1
    }

    /// The number of the state after that entry.
    fn number_at(&self, index: u64) -> usize {
        let after = self.states.partition_point(|(from, _)| *from <= index);
        after.saturating_sub(1)
    }

    /// All rights that were in force after some entry of that range.
    pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &model::Auth> {
        let first = self.states.partition_point(|(at, _)| *at <= from).max(1) - 1;
        let states = self.states[first..].iter();
        let states = states.take_while(move |(at, _)| *at <= from.max(to));
        states.map(|(_, state)| state)
    }

    /// The entry that has written a revision.
    pub(super) fn entry_of(&self, revision: i64) -> u64 {
        let at = usize::try_from(revision - 2).ok();
        at.and_then(|at| self.written.get(at)).copied().unwrap_or(0)
    }

    /// Whether the change of that entry has taken effect.
    pub(super) fn has_changed(&self, index: u64) -> bool {
        self.changes.get(&index).copied().unwrap_or(false)
    }

    fn change(&mut self, index: u64, op: &auth_change::Op) {
        let mut next = self.last().clone();
        let is_done = next.change(op, index).is_ok();
        self.changes.insert(index, is_done);
        if is_done {
            self.states.push((index, next));
        }
    }
}

impl World {
    /// A command is committed. Returns it without its user if it has an effect.
    pub(in crate::sim) fn auth_commits(&mut self, index: Index, op: Op) -> Option<Op> {
        if self.swarm.users == 0 {
            return Some(op);
        }
        let (user, op) = match op {
            Op::AsUser(of) => {
                let AsUser {
                    user,
                    since,
                    command,
                } = *of;
                (Some((user, since)), command?.op?)
            }
            op => (None, op),
        };
        let by = match &user {
            Some((name, _)) if name.is_empty() => By::Member,
            Some((name, since)) => By::User(name, *since),
            None => By::Nobody,
        };
        let last = self.auth.agreed.last();
        let is_permitted = match (asked(&op), &op) {
            (Some(asked), _) => {
                let attached = self.attached(&op);
                let keys = &self.auth.keys;
                last.check_with_lease(by, &asked, keys, &attached).is_ok()
            }
            (None, Op::Auth(_)) => !last.enabled || by == By::User(super::admin::ROOT, 0),
            // The members' own.
            (None, _) => true,
        };
        if let Op::Auth(change) = &op
            && let Some(change) = change.op.as_ref().filter(|_| is_permitted)
        {
            self.auth.agreed.change(index.0, change);
        }
        if !is_permitted {
            self.auth.agreed.denied.insert(index.0);
        }
        is_permitted.then_some(op)
    }

    /// The keys of the lease that a command names, before it.
    fn attached(&self, op: &Op) -> Vec<Bytes> {
        let Some(id) = lease_of(op) else {
            return Vec::new();
        };
        let mut leases = self.watches.model.leases().into_iter();
        leases
            .find(|lease| lease.id == id)
            .map_or(Vec::new(), |lease| lease.keys)
    }

    /// A member has applied an entry: it is refused for a lack of rights exactly if the log's
    /// rights do not permit it.
    pub(in crate::sim) fn check_verdict(
        &mut self,
        index: Index,
        response: &Result<Response, Error>,
    ) -> Result<(), String> {
        if self.swarm.users == 0 {
            return Ok(());
        }
        let denied = self.auth.agreed.denied.contains(&index.0);
        let is_denial = matches!(response, Err(error) if is_denial(&error.to_string()));
        match denied == is_denial {
            true => Ok(()),
            false => Err(format!(
                "auth: entry {index} got {response:?}, denied: {denied}"
            )),
        }
    }

    /// The entry has written a revision of KV.
    pub(in crate::sim) fn auth_counts(&mut self, index: Index) {
        let revisions = self.watches.log.revision() - 1;
        let written = &mut self.auth.agreed.written;
        while (written.len() as i64) < revisions {
            written.push(index.0);
        }
    }

    /// Compares a member's users, roles and permissions with those of the log after the entry that
    /// it has applied. Returns their digest; none in a run without users.
    pub(in crate::sim) fn compare_auth(&mut self, id: MemberId) -> Result<Option<u64>, String> {
        let life = self.members.get(&id).and_then(|it| it.life.as_ref());
        let Some(life) = life.filter(|life| self.swarm.users != 0 && life.machine().is_some())
        else {
            return Ok(None);
        };
        let (applied, auth) = (life.applied().0, life.applier.view().auth());
        let number = self.auth.agreed.number_at(applied);
        let compared = self.auth.compared.get(&id);
        // The member's state alone does not show a change that it has dropped.
        let same = compared.filter(|(of, at, _)| Arc::ptr_eq(of, &auth) && *at == number);
        if let Some((_, _, digest)) = same {
            return Ok(Some(*digest));
        }
        let (found, expected) = (simple(&auth), self.auth.agreed.at(applied));
        if found != *expected {
            return Err(format!(
                "auth: {id} has after entry {applied}\n  {found:?}\ninstead of\n  {expected:?}"
            ));
        }
        let mut hasher = DefaultHasher::new();
        format!("{auth:?}").hash(&mut hasher);
        let digest = hasher.finish();
        self.auth.compared.insert(id, (auth, number, digest));
        Ok(Some(digest))
    }
}

/// A member's rights, as the model has them.
fn simple(auth: &Auth) -> model::Auth {
    let users = auth.user_names().filter_map(|name| {
        let user = auth.user(name)?;
        let roles: BTreeSet<String> = user.roles.iter().cloned().collect();
        let since = user.since;
        Some((name.clone(), model::User { roles, since }))
    });
    let roles = auth.role_names().filter_map(|name| {
        let permissions = auth.role(name)?.permissions.iter();
        let of = permissions.map(|it| ((it.key.clone(), it.range_end.clone()), it.perm_type()));
        Some((name.clone(), of.collect()))
    });
    model::Auth {
        enabled: auth.enabled,
        revision: auth.revision,
        users: users.collect(),
        roles: roles.collect(),
    }
}

/// A client's command, as the model has it; none of another kind.
pub(super) fn asked(op: &Op) -> Option<Asked<'_>> {
    match op {
        Op::Put(put) => Some(Asked::Put(put)),
        Op::DeleteRange(delete) => Some(Asked::Delete(delete)),
        Op::Txn(txn) => Some(Asked::Txn(txn)),
        Op::Compaction(_) => Some(Asked::Compact),
        Op::LeaseGrant(_) => Some(Asked::Grant),
        Op::LeaseRevoke(_) => Some(Asked::Revoke),
        _ => None,
    }
}

/// The lease that a command names: all puts of a transaction here name the same.
fn lease_of(op: &Op) -> Option<i64> {
    match op {
        Op::LeaseRevoke(revoke) => Some(revoke.id),
        Op::Put(put) => Some(put.lease),
        Op::Txn(txn) => {
            let mut ops = txn.success.iter().chain(&txn.failure);
            ops.find_map(|op| match &op.request {
                Some(Request::RequestPut(put)) if put.lease != 0 => Some(put.lease),
                _ => None,
            })
        }
        _ => None,
    }
}

impl AuthWorld {
    /// Checks a request with some rights.
    pub(super) fn check(
        &self,
        rights: &model::Auth,
        caller: &Caller,
        asked: &Asked<'_>,
    ) -> Result<(), Denial> {
        let by = match caller {
            Caller::Member => By::Member,
            Caller::Anonymous => By::Nobody,
            Caller::User { name, since } => By::User(name, *since),
        };
        rights.check(by, asked, &self.keys)
    }
}
