//! Runs a sequence on two single members and compares every answer.

mod expiry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::PutRequest;

use super::accepted::accepted;
use super::answer::{Answer, Subject};
use super::differences::Differences;
use super::generate::{Generator, Operation};
use super::settle::{AT_COMPACTION, MARKED, exposed, marker_watch, settle};
use super::token::Token;
use crate::proc::cluster::{Cluster, Plan};

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Operations run.
    pub operations: usize,
    /// Events of watchers, compared.
    pub events: usize,
    /// The number of answers with each error text.
    pub errors: BTreeMap<String, usize>,
    /// Accepted differences, by name.
    pub accepted: BTreeMap<&'static str, usize>,
}

/// Runs `operations` operations generated from `seed` on both binaries.
///
/// # Errors
/// A server does not start, or answers differ; the text contains the command to repeat it.
pub async fn run(ours: &Path, theirs: &Path, seed: u64, operations: usize) -> Result<Summary> {
    let mut run = Run::start(ours, theirs, seed).await?;
    run.step(&Operation::Watch(marker_watch())).await?;
    while run.summary.operations < operations && !run.differences.enough() {
        let operation = run.generator.operation();
        if let Operation::Compact(request) = &operation {
            run.before_compaction(request.revision).await?;
        }
        run.step(&operation).await?;
    }
    run.settle().await?;
    if !run.differences.enough() {
        run.expiry().await?;
    }
    if run.differences.count > 0 {
        bail!(
            "seed {seed}: {} answers differ\n{}",
            run.differences.count,
            run.differences.text
        );
    }
    ensure!(run.generator.revision > 1, "nothing was ever written");
    Ok(run.summary)
}

/// One sequence on two members.
struct Run {
    seed: u64,
    our_member: Cluster,
    their_member: Cluster,
    ours: Subject,
    theirs: Subject,
    generator: Generator,
    summary: Summary,
    differences: Differences,
}

impl Run {
    async fn start(ours: &Path, theirs: &Path, seed: u64) -> Result<Run> {
        let starts = (start(ours, &[]), start(theirs, &[]));
        let (our_member, their_member) = tokio::join!(starts.0, starts.1);
        let (our_member, their_member) = (our_member?, their_member?);
        Ok(Run {
            seed,
            ours: Subject::connect(&our_member.endpoints()[0], &Token::default()),
            theirs: Subject::connect(&their_member.endpoints()[0], &Token::default()),
            our_member,
            their_member,
            generator: Generator::new(seed),
            summary: Summary::default(),
            differences: Differences::default(),
        })
    }

    /// Carries the operation out on both, and compares.
    async fn step(&mut self, operation: &Operation) -> Result<()> {
        let number = self.summary.operations;
        self.summary.operations += 1;
        let answers = (self.ours.answer(operation), self.theirs.answer(operation));
        let (our, their) = tokio::join!(answers.0, answers.1);
        let seed = self.seed;
        let ended = || format!("seed {seed}, operation {number} ended a server\n{operation:?}");
        self.our_member.members[0].alive().with_context(ended)?;
        self.their_member.members[0].alive().with_context(ended)?;
        if our != their {
            match accepted(operation, &our, &their) {
                Some(rule) => *self.summary.accepted.entry(rule).or_default() += 1,
                None => {
                    let apart = our.revision() != their.revision();
                    self.differences
                        .add(number, operation, (&our, &their), apart);
                }
            }
        }
        learn(&mut self.generator, operation, &their);
        if let Answer::Error(code, text) = &their {
            let error = format!("{code:?}: {text}");
            *self.summary.errors.entry(error).or_default() += 1;
        }
        self.differences.remember(number, operation, &their);
        Ok(())
    }

    /// Compares what all watchers have received up to now.
    async fn settle(&mut self) -> Result<()> {
        let put = PutRequest {
            key: MARKED.into(),
            ..PutRequest::default()
        };
        self.step(&Operation::Put(put)).await?;
        if self.differences.enough() {
            return Ok(());
        }
        let revision = self.generator.revision;
        match settle(&self.ours, &self.theirs, revision).await {
            Ok(settled) => {
                self.summary.events += settled.events;
                if 0 < settled.accepted {
                    let accepted = &mut self.summary.accepted;
                    *accepted.entry(AT_COMPACTION).or_default() += settled.accepted;
                }
            }
            Err(text) => self.differences.add_watch(self.summary.operations, &text),
        }
        Ok(())
    }

    /// Before a compaction that succeeds: compares, and cancels the watchers that it may end in
    /// one server and not in the other.
    async fn before_compaction(&mut self, revision: i64) -> Result<()> {
        let now = self.generator.revision;
        if !(self.generator.compacted + 1..=now).contains(&revision) {
            return Ok(());
        }
        self.settle().await?;
        for id in exposed(&self.theirs, revision) {
            self.step(&Operation::CancelWatch(id)).await?;
        }
        Ok(())
    }
}

/// Starts one member, with its data in /dev/shm where that exists: no disk is tested.
pub(super) async fn start(binary: &Path, flags: &[&str]) -> Result<Cluster> {
    let memory = PathBuf::from("/dev/shm");
    let plan = Plan {
        parent: memory.is_dir().then_some(memory),
        extra: flags.iter().map(|&flag| flag.to_owned()).collect(),
        ..Plan::new(binary, 1)
    };
    Cluster::start(&plan).await
}

/// Updates the generator with the store's revision and the watchers.
pub(super) fn learn(generator: &mut Generator, operation: &Operation, answer: &Answer) {
    if let Some(revision) = answer.revision() {
        generator.revision = revision;
    }
    match (operation, answer) {
        (Operation::Compact(request), Answer::Compact(_)) => {
            generator.compacted = request.revision;
        }
        (Operation::Watch(request), Answer::Watch(Some(response))) => {
            let ends = (1..generator.compacted).contains(&request.start_revision);
            if !response.canceled && !ends && request.key != MARKED {
                generator.watchers.push(response.watch_id);
            }
        }
        (Operation::CancelWatch(id), _) => generator.watchers.retain(|watcher| watcher != id),
        _ => {}
    }
}
