//! Runs a sequence on two single members and compares every reply.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::compare::seconds;
use super::generate::{Generator, Operation};
use super::report::{Report, Summary};
use super::subject::{Answer, Subject, Through};
use super::watch::{self, Watcher};
use crate::http::Request;

/// A key that expires at once is gone after this time: etcd checks twice a second.
const ENDED: Duration = Duration::from_secs(6);

/// TTLs below this end within the run.
const SOON: i64 = 500;

/// Events shown after the stores have diverged.
const EXPLAINED: u64 = 5;

/// Two servers that get the same requests.
#[derive(Debug)]
pub struct Pair {
    /// The server under test.
    pub ours: Subject,
    /// The reference.
    pub theirs: Subject,
    /// How the server under test is reached.
    through: Through,
    /// The results.
    pub report: Report,
    /// The number of the current operation.
    pub number: usize,
}

impl Pair {
    /// Starts both; the reference is reached directly.
    ///
    /// # Errors
    /// One does not start.
    pub async fn start(ours: &Path, theirs: &Path, through: Through) -> Result<Pair> {
        let theirs = Subject::start(theirs, Through::Nothing);
        let (ours, theirs) = tokio::join!(Subject::start(ours, through), theirs);
        Ok(Pair {
            ours: ours?,
            theirs: theirs?,
            through,
            report: Report::default(),
            number: 0,
        })
    }

    /// Sends a request to both and compares; returns etcd's answer.
    pub async fn ask(&mut self, request: &Request) -> Answer {
        let (mut ours, mut theirs) =
            tokio::join!(self.ours.answer(request), self.theirs.answer(request));
        if self.through == Through::Proxy {
            // Headers about a connection are not forwarded by a proxy.
            for reply in [&mut ours, &mut theirs].into_iter().flatten() {
                reply.headers.retain(|(name, _)| name != "connection");
            }
        }
        self.report.compare(self.number, request, &ours, &theirs);
        theirs
    }

    /// Watches on both, writes on both, and compares what every watcher receives.
    pub async fn watch(
        &mut self,
        watchers: &[Request],
        writes: &[Request],
        learn: impl FnMut(&Answer),
    ) {
        self.watched(watchers, writes, Duration::ZERO, learn).await;
    }

    /// As `watch`, with this much time for events after the writes.
    pub async fn watch_for(&mut self, watchers: &[Request], writes: &[Request], time: Duration) {
        self.watched(watchers, writes, time, |_| {}).await;
    }

    async fn watched(
        &mut self,
        watchers: &[Request],
        writes: &[Request],
        time: Duration,
        mut learn: impl FnMut(&Answer),
    ) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for watcher in watchers {
            let (our, their) = tokio::join!(
                Watcher::start(&self.ours, watcher),
                Watcher::start(&self.theirs, watcher)
            );
            ours.push(our);
            theirs.push(their);
        }
        for write in writes {
            let answer = self.ask(write).await;
            learn(&answer);
        }
        tokio::time::sleep(time).await;
        watch::settle(&ours, &theirs).await;
        for ((our, their), request) in ours.into_iter().zip(theirs).zip(watchers) {
            let (our, our_end) = our.finish(&self.ours);
            let (their, their_end) = their.finish(&self.theirs);
            self.report.compare(self.number, request, &our, &their);
            if our_end != their_end {
                let text = format!("{request}\n  has ended: ours {our_end}, theirs {their_end}");
                self.report.complain(self.number, &text);
            }
            let lines = |body: &[u8]| body.iter().filter(|byte| **byte == b'\n').count();
            self.report.summary.watched += their.map_or(0, |reply| lines(&reply.body));
        }
    }

    /// Checks that both servers run.
    ///
    /// # Errors
    /// One has ended.
    pub fn alive(&mut self) -> Result<()> {
        self.ours.alive()?;
        self.theirs.alive()
    }

    /// Waits until a key that expires at once is gone on both.
    async fn ended(&mut self, answer: &Answer) {
        let Ok(reply) = answer else {
            return;
        };
        let expiration = reply
            .json()
            .map(|json| json["node"]["expiration"].to_string());
        let soon = now() + SOON;
        let ends = expiration.is_some_and(|text| seconds(&text).is_some_and(|at| at < soon));
        if !ends || !wrote(reply.status, &reply.body) {
            return;
        }
        self.report.summary.ended += 1;
        let next = reply.number("x-etcd-index").unwrap_or_default() + 1;
        let (our, their) = tokio::join!(
            self.ours.reaches(next, ENDED),
            self.theirs.reaches(next, ENDED)
        );
        if !our || !their {
            let text = format!("gone after {ENDED:?}: ours {our}, theirs {their}");
            self.report.complain(self.number, &text);
        }
    }

    /// Shows the last events of both stores, if the stores have diverged.
    async fn explain(&mut self) {
        if !self.report.apart {
            return;
        }
        let (our, their) = (self.ours.index().await, self.theirs.index().await);
        let last = our.max(their).unwrap_or_default();
        for since in last.saturating_sub(EXPLAINED)..=last {
            let target = format!("/v2/keys/?wait=true&recursive=true&waitIndex={since}");
            let request = Request::get(target);
            let (our, their) = tokio::join!(
                Watcher::start(&self.ours, &request),
                Watcher::start(&self.theirs, &request)
            );
            watch::settle(std::slice::from_ref(&our), std::slice::from_ref(&their)).await;
            for (who, (answer, _)) in [
                ("ours:  ", our.finish(&self.ours)),
                ("theirs:", their.finish(&self.theirs)),
            ] {
                let text = answer.map_or_else(|error| error, |reply| reply.text());
                self.report.text += &format!("  event {since} {who} {}\n", text.trim_end());
            }
        }
    }

    /// The results.
    ///
    /// # Errors
    /// There are differences; the text contains the command to repeat the run.
    pub fn finish(self, what: &str) -> Result<Summary> {
        if 0 < self.report.count {
            bail!(
                "{what}: {} answers differ\n{}",
                self.report.count,
                self.report.text
            );
        }
        Ok(self.report.summary)
    }
}

fn wrote(status: u16, body: &[u8]) -> bool {
    status < 300 && !body.starts_with(b"{\"action\":\"get\"")
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// Runs operations generated from `seed` on both binaries until `requests` requests were made.
///
/// # Errors
/// A server does not start, ends, or answers differ; the text contains the command to repeat it.
pub async fn run(
    ours: &Path,
    theirs: &Path,
    through: Through,
    seed: u64,
    requests: usize,
) -> Result<Summary> {
    let mut pair = Pair::start(ours, theirs, through).await?;
    let mut generator = Generator::new(seed);
    let progress = progress(requests);
    while pair.report.summary.requests < requests && !pair.report.enough() {
        match generator.operation() {
            Operation::Ask(request) => {
                let answer = pair.ask(&request).await;
                pair.ended(&answer).await;
                learn(&mut generator, &answer);
            }
            Operation::Watch { watchers, writes } => {
                let learn = |answer: &Answer| learn(&mut generator, answer);
                pair.watch(&watchers, &writes, learn).await;
            }
        }
        pair.alive()?;
        pair.number += 1;
        progress.set_position(pair.report.summary.requests as u64);
    }
    progress.finish_and_clear();
    pair.explain().await;
    ensure!(
        0 < pair.report.count || 0 < pair.report.summary.watched,
        "no watcher ever got anything"
    );
    pair.finish(&format!("seed {seed}"))
}

fn learn(generator: &mut Generator, answer: &Answer) {
    if let Ok(reply) = answer {
        generator.learn(reply);
    }
}

/// A progress bar on a terminal; hidden otherwise.
fn progress(requests: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} request {pos} of {len}, {eta} left");
    let style = style.expect("the template is a constant");
    ProgressBar::new(requests as u64).with_style(style)
}
