//! Runs a sequence on two single members and compares every answer.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::{LeaseTimeToLiveRequest, RangeRequest};

use super::accepted::{UNCHECKED_KEYS, UNCHECKED_TXN, UNCHECKED_WATCH, accepted};
use super::call::{Call, Caller};
use super::generate::AuthGenerator;
use super::subject::{Subject, is_refused};
use super::unexecuted::{has_unchecked, unexecuted};
use crate::differential::answer::Answer;
use crate::differential::differences::Differences;
use crate::differential::generate::Operation;
use crate::differential::run::{Summary, learn, start};
use crate::proc::cluster::Cluster;

/// Passwords are hashed as fast as bcrypt can.
const FLAGS: [&str; 1] = ["--bcrypt-cost=4"];

/// Runs `calls` calls generated from `seed` on both binaries.
///
/// # Errors
/// A server does not start, or answers differ.
pub async fn run(ours: &Path, theirs: &Path, seed: u64, calls: usize) -> Result<Summary> {
    let starts = (start(ours, &FLAGS), start(theirs, &FLAGS));
    let (our_member, their_member) = tokio::join!(starts.0, starts.1);
    let (our_member, their_member) = (our_member?, their_member?);
    let mut run = Run {
        ours: Subject::new(&our_member.endpoints()[0]),
        theirs: Subject::new(&their_member.endpoints()[0]),
        members: [our_member, their_member],
        generator: AuthGenerator::new(seed),
        summary: Summary::default(),
        differences: Differences::default(),
    };
    while run.summary.operations < calls && !run.differences.enough() {
        let (caller, call) = run.generator.call();
        let step = run.step(caller, &call).await;
        step.with_context(|| format!("seed {seed}"))?;
    }
    for (caller, call) in run.generator.finale() {
        if !run.differences.enough() {
            run.step(caller, &call).await?;
        }
    }
    let Differences { count, text, .. } = &run.differences;
    if 0 < *count {
        bail!("seed {seed}: {count} answers differ\n{text}");
    }
    ensure!(run.generator.kv.revision > 1, "nothing was ever written");
    Ok(run.summary)
}

/// One sequence on two members.
struct Run {
    members: [Cluster; 2],
    ours: Subject,
    theirs: Subject,
    generator: AuthGenerator,
    summary: Summary,
    differences: Differences,
}

impl Run {
    /// Carries the call out on both, and compares.
    async fn step(&mut self, caller: Caller, call: &Call) -> Result<()> {
        let number = self.summary.operations;
        self.summary.operations += 1;
        let with = (caller, call);
        let our = match unchecked_txn(call) {
            true => {
                let our = self.ours.answer(caller, call).await;
                if is_refused(&our) && self.is_part_refused(caller, call).await {
                    self.accept(UNCHECKED_TXN);
                    return Ok(());
                }
                Some(our)
            }
            false => None,
        };
        let (our, their) = match our {
            Some(our) => (our, self.theirs.answer(caller, call).await),
            None => {
                let answers = (
                    self.ours.answer(caller, call),
                    self.theirs.answer(caller, call),
                );
                tokio::join!(answers.0, answers.1)
            }
        };
        for member in &mut self.members {
            let alive = member.members[0].alive();
            alive.with_context(|| format!("call {number} ended a server\n{with:?}"))?;
        }
        if our != their {
            let rule = match accepted(call, &our, &their) {
                None if is_refused(&our) && self.is_key_refused(caller, &their).await => {
                    Some(UNCHECKED_KEYS)
                }
                None if self.is_watch_refused(caller, call, &our).await => Some(UNCHECKED_WATCH),
                rule => rule,
            };
            match rule {
                Some(rule) => self.accept(rule),
                None => {
                    let apart = our.revision() != their.revision();
                    self.differences.add(number, &with, (&our, &their), apart);
                    let accounts = self.accounts().await;
                    self.differences.text += &accounts;
                }
            }
        }
        if let Call::Kv(operation) = call {
            learn(&mut self.generator.kv, operation, &their);
        }
        self.generator.learn(caller, call, &their);
        if let Answer::Error(code, text) = &their {
            let error = format!("{code:?}: {text}");
            *self.summary.errors.entry(error).or_default() += 1;
        }
        self.differences.remember(number, &with, &their);
        Ok(())
    }

    /// Users and roles, for the text of a difference.
    async fn accounts(&mut self) -> String {
        let mut text = format!("  sessions: {:?}\n", self.generator.users());
        for (caller, call) in self.generator.finale() {
            if matches!(call, Call::UserGet(_) | Call::RoleGet(_)) {
                let their = self.theirs.answer(caller, &call).await;
                text += &format!("  {call:?}: {their:?}\n");
            }
        }
        text
    }

    fn accept(&mut self, rule: &'static str) {
        *self.summary.accepted.entry(rule).or_default() += 1;
    }

    /// Whether etcd refuses a part of the transaction.
    async fn is_part_refused(&mut self, caller: Caller, call: &Call) -> bool {
        let Call::Kv(Operation::Txn(txn)) = call else {
            return false;
        };
        for part in unexecuted(txn) {
            let part = Call::Kv(Operation::Txn(part));
            if is_refused(&self.theirs.answer(caller, &part).await) {
                return true;
            }
        }
        false
    }

    /// Whether ours refuses an open watch, and etcd refuses to read its range.
    async fn is_watch_refused(&mut self, caller: Caller, call: &Call, ours: &Answer) -> bool {
        let (Call::Watch(request), Answer::Text(text)) = (call, ours) else {
            return false;
        };
        let is_open = *request.range_end == [0];
        let read = RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            count_only: true,
            ..RangeRequest::default()
        };
        let read = Call::Kv(Operation::Range(read));
        let denied = "PermissionDenied desc = etcdserver: permission denied";
        is_open && text.contains(denied) && is_refused(&self.theirs.answer(caller, &read).await)
    }

    /// Whether etcd's answer shows a lease with a key that the caller may not read.
    async fn is_key_refused(&mut self, caller: Caller, theirs: &Answer) -> bool {
        let mut keys = Vec::new();
        match theirs {
            Answer::TimeToLive(response) => keys.clone_from(&response.keys),
            Answer::Leases(response) => {
                for lease in &response.leases {
                    let (id, with_keys) = (lease.id, true);
                    let request = LeaseTimeToLiveRequest {
                        id,
                        keys: with_keys,
                    };
                    let times = Call::Kv(Operation::TimeToLive(request));
                    if let Answer::TimeToLive(times) = self.theirs.answer(caller, &times).await {
                        keys.extend(times.keys);
                    }
                }
            }
            _ => {}
        }
        for key in keys {
            let read = Call::Kv(Operation::Range(RangeRequest {
                key,
                ..RangeRequest::default()
            }));
            if is_refused(&self.theirs.answer(caller, &read).await) {
                return true;
            }
        }
        false
    }
}

fn unchecked_txn(call: &Call) -> bool {
    matches!(call, Call::Kv(Operation::Txn(txn)) if has_unchecked(txn))
}
