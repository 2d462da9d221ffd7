//! Runs a sequence on two single members and compares every answer.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::accepted::accepted;
use super::answer::{Answer, Subject};
use super::generate::{Generator, Operation};
use crate::proc::cluster::{Cluster, Plan};

/// Operations shown before a difference.
const SHOWN: usize = 3;

/// Differences after which a run stops.
const DIFFERENCES: usize = 10;

/// Operations and answers longer than this are cut in messages.
const CUT: usize = 1_500;

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Operations run.
    pub operations: usize,
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
    let (our_member, their_member) = tokio::join!(start(ours), start(theirs));
    let (mut our_member, mut their_member) = (our_member?, their_member?);
    let mut ours = Subject::connect(&our_member.endpoints()[0]).await?;
    let mut theirs = Subject::connect(&their_member.endpoints()[0]).await?;
    let leases = ours.grant().await? && theirs.grant().await?;
    if !leases {
        println!("a server knows no leases yet: operations use none");
    }
    let mut generator = Generator::new(seed, leases);
    let mut summary = Summary::default();
    let mut differences = Differences::default();
    for number in 0..operations {
        let operation = generator.operation();
        let (our, their) = tokio::join!(ours.answer(&operation), theirs.answer(&operation));
        let ended = || format!("seed {seed}, operation {number} ended a server\n{operation:?}");
        our_member.members[0].alive().with_context(ended)?;
        their_member.members[0].alive().with_context(ended)?;
        if our != their {
            match accepted(&operation, &our, &their) {
                Some(rule) => *summary.accepted.entry(rule).or_default() += 1,
                None => differences.add(number, &operation, &our, &their),
            }
        }
        if differences.enough() {
            break;
        }
        learn(&mut generator, &operation, &their);
        if let Answer::Error(code, text) = &their {
            *summary
                .errors
                .entry(format!("{code:?}: {text}"))
                .or_default() += 1;
        }
        differences.remember(number, &operation, &their);
    }
    if differences.count > 0 {
        bail!(
            "seed {seed}: {} answers differ\n{}",
            differences.count,
            differences.text
        );
    }
    summary.operations = operations;
    ensure!(generator.revision > 1, "nothing was ever written");
    Ok(summary)
}

/// The differences in a readable form.
#[derive(Default)]
struct Differences {
    count: usize,
    /// The stores have diverged: later differences are consequences.
    apart: bool,
    text: String,
    recent: VecDeque<String>,
}

impl Differences {
    fn add(&mut self, number: usize, operation: &Operation, ours: &Answer, theirs: &Answer) {
        self.count += 1;
        self.apart |= ours.revision() != theirs.revision();
        for earlier in self.recent.drain(..) {
            self.text += &format!("  before: {earlier}\n");
        }
        let [operation, ours, theirs] = [
            format!("{operation:?}"),
            format!("{ours:?}"),
            format!("{theirs:?}"),
        ]
        .map(cut);
        self.text += &format!("{number}: {operation}\n  ours:   {ours}\n  theirs: {theirs}\n");
    }

    fn enough(&self) -> bool {
        self.apart || self.count >= DIFFERENCES
    }

    fn remember(&mut self, number: usize, operation: &Operation, answer: &Answer) {
        let answer = cut(format!("{answer:?}"));
        self.recent.push_back(format!(
            "{number}: {} -> {answer}",
            cut(format!("{operation:?}"))
        ));
        if self.recent.len() > SHOWN {
            self.recent.pop_front();
        }
    }
}

/// Starts one member, with its data in /dev/shm where that exists: no disk is tested.
async fn start(binary: &Path) -> Result<Cluster> {
    let memory = PathBuf::from("/dev/shm");
    let plan = Plan {
        parent: memory.is_dir().then_some(memory),
        ..Plan::new(binary, 1)
    };
    Cluster::start(&plan).await
}

/// Updates the generator with the store's revision.
fn learn(generator: &mut Generator, operation: &Operation, answer: &Answer) {
    if let Some(revision) = answer.revision() {
        generator.revision = revision;
    }
    if let (Operation::Compact(request), Answer::Compact(_)) = (operation, answer) {
        generator.compacted = request.revision;
    }
}

fn cut(text: String) -> String {
    let mut cut: String = text.chars().take(CUT).collect();
    if cut.len() < text.len() {
        cut += "...";
    }
    cut
}
