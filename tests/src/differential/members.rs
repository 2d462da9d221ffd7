//! The same membership calls on three members of ours and of etcd, with all of them up and with one
//! down: each succeeds, or is refused with the same text.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tonic::Status;

use crate::chaos::members::{Members, NOT_IN_SYNC, UNHEALTHY, id_of};
use crate::http::{Client, Request};
use crate::proc::cluster::{Cluster, Plan};
use crate::proc::ports;

/// The log line of a leader about a peer whose process is gone: ours, and etcd 3.4's.
const GONE: [&str; 2] = ["cannot reach peer", "peer became inactive"];

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(50);

/// An id that belongs to no member.
const UNKNOWN: u64 = 0xdead_beef;

/// A call and its result.
type Answer = (&'static str, String);

/// Runs the sequence on both clusters and compares.
///
/// # Errors
/// A server does not start, or answers differ.
pub async fn run(ours: &Path, theirs: &Path) -> Result<usize> {
    let (ours, theirs) = tokio::join!(answers(ours), answers(theirs));
    let (ours, theirs) = (ours.context("ours")?, theirs.context("theirs")?);
    let pairs = ours.iter().zip(&theirs).filter(|(our, their)| our != their);
    let differences: Vec<String> = pairs
        .map(|((call, our), (_, their))| format!("{call}\n  ours:   {our}\n  theirs: {their}\n"))
        .collect();
    ensure!(differences.is_empty(), "{}", differences.concat());
    ensure!(ours.len() == theirs.len(), "{ours:?}\n{theirs:?}");
    Ok(ours.len())
}

async fn answers(binary: &Path) -> Result<Vec<Answer>> {
    let plan = Plan::new(binary, 3).flag("--enable-v2=true");
    let cluster = Cluster::start(&plan).await?;
    let leader = cluster.leader().await?;
    let mut ids = Vec::new();
    for url in cluster.endpoints() {
        ids.push(id_of(&url).await?);
    }
    let mut side = Side {
        members: Members::at(&cluster.members[leader].client_url),
        cluster,
        leader,
        ids,
        answers: Vec::new(),
    };
    let outcome = side.sequence().await;
    outcome.with_context(|| format!("{:#?}\n{}", side.answers, side.cluster.log_tails()))?;
    Ok(side.answers)
}

fn unix_second() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// One cluster under comparison.
struct Side {
    cluster: Cluster,
    leader: usize,
    ids: Vec<u64>,
    members: Members,
    answers: Vec<Answer>,
}

impl Side {
    /// The first and the second follower, and the leader.
    fn roles(&self) -> [usize; 3] {
        [1, 2, 3].map(|step| (self.leader + step) % 3)
    }

    fn peer_url(&self, number: usize) -> String {
        self.cluster.members[number].peer_url.clone()
    }

    async fn sequence(&mut self) -> Result<()> {
        self.all_up().await?;
        self.learner().await?;
        self.one_down().await?;
        self.down_to_one().await
    }

    /// Records the answer to a call.
    async fn note<T>(
        &mut self,
        name: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Option<T> {
        let outcome = tokio::time::timeout(LIMIT, call).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let (text, answer) = match outcome {
            Ok(answer) => ("done".to_owned(), Some(answer)),
            Err(status) => (format!("{:?}: {}", status.code(), status.message()), None),
        };
        self.answers.push((name, text));
        answer
    }

    /// Records the answer of a healthy cluster: both servers report members as unhealthy for a
    /// while after they were connected.
    async fn settled<T, F>(&mut self, name: &'static str, call: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.after(UNHEALTHY, name, call).await
    }

    /// Records the first answer that is not this temporary one.
    async fn after<T, F>(
        &mut self,
        passing: &str,
        name: &'static str,
        call: impl Fn() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begin = Instant::now();
        let outcome = loop {
            match call().await {
                Err(status) if status.message() == passing && begin.elapsed() < LIMIT => {
                    tokio::time::sleep(POLL).await;
                }
                outcome => break outcome,
            }
        };
        self.note(name, std::future::ready(outcome)).await
    }

    /// The promotion of a voter. etcd first checks whether it lags behind, as one just started may.
    async fn promote_voter(&mut self, id: u64) {
        let members = self.members.clone();
        let call = || members.promote(id);
        self.after(NOT_IN_SYNC, "promote a voter", call).await;
    }

    /// Calls with an unknown member, without a URL, or with another member's; and URLs in another
    /// spelling.
    async fn all_up(&mut self) -> Result<()> {
        let members = self.members.clone();
        let [first, second, leader] = self.roles();
        let taken = self.peer_url(second);
        let id = self.ids[first];
        let m = &members;
        self.settled("add no URL", || m.add("here", false)).await;
        self.settled("add a taken URL", || m.add(&taken, false))
            .await;
        self.settled("add a learner at a taken URL", || m.add(&taken, true))
            .await;
        // An update to an invalid URL ends members of etcd 3.4.23 with a panic.
        self.settled("update to a taken URL", || m.update(id, &taken))
            .await;
        let free = "http://127.0.0.1:9";
        self.settled("update an unknown member", || m.update(UNKNOWN, free))
            .await;
        self.settled("remove an unknown member", || m.remove(UNKNOWN))
            .await;
        self.settled("promote an unknown member", || m.promote(UNKNOWN))
            .await;
        self.promote_voter(id).await;
        for (name, number) in [("update a follower", first), ("update the leader", leader)] {
            let (id, url) = (self.ids[number], self.peer_url(number));
            let url = url.replace("127.0.0.1", "localhost");
            self.settled(name, || m.update(id, &url)).await;
        }
        self.list("list after updates").await
    }

    /// A learner that never starts.
    async fn learner(&mut self) -> Result<()> {
        let members = self.members.clone();
        let m = &members;
        let url = format!("http://127.0.0.1:{}", ports::free(1)?[0]);
        let added = self.settled("add a learner", || m.add(&url, true)).await;
        let id = added.context("a learner is added")?;
        // etcd computes the id from the URL and the second: within the same second the id exists
        // already.
        let second = unix_second()?;
        while unix_second()? == second {
            tokio::time::sleep(POLL).await;
        }
        self.list("list with a learner").await?;
        self.settled("add it again", || m.add(&url, true)).await;
        self.settled("add it again as a voter", || m.add(&url, false))
            .await;
        self.settled("add a second learner", || m.add("http://127.0.0.1:9", true))
            .await;
        self.settled("promote a learner that never started", || m.promote(id))
            .await;
        self.settled("update a learner", || m.update(id, "http://127.0.0.1:9"))
            .await;
        self.settled("remove a learner", || m.remove(id)).await;
        self.settled("remove it again", || m.remove(id)).await;
        self.settled("update a removed member", || m.update(id, &url))
            .await;
        self.settled("promote a removed member", || m.promote(id))
            .await;
        self.list("list without a learner").await
    }

    /// Calls with the first follower dead.
    async fn one_down(&mut self) -> Result<()> {
        let members = self.members.clone();
        let m = &members;
        let [dead, other, leader] = self.roles();
        let before = self.cluster.members[leader].log().len();
        self.cluster.kill(dead);
        self.gone(before).await?;
        let url = "http://127.0.0.1:9";
        let (dead_id, other_id, own_id) = (self.ids[dead], self.ids[other], self.ids[leader]);
        self.note("add beside a dead member", m.add(url, false))
            .await;
        self.note("add a learner beside it", m.add(url, true)).await;
        self.note("remove a healthy member", m.remove(other_id))
            .await;
        self.note("remove the leader", m.remove(own_id)).await;
        self.promote_voter(other_id).await;
        let (own, taken) = (self.peer_url(dead), self.peer_url(other));
        self.note("update the dead member", m.update(dead_id, &own))
            .await;
        self.note("update it to a taken URL", m.update(dead_id, &taken))
            .await;
        // An update of the healthy follower sometimes gets no answer of etcd 3.4.23 within a
        // minute.
        self.delete("v2: remove a healthy member", other_id).await?;
        self.delete("v2: remove an unknown member", UNKNOWN).await?;
        self.note("remove the dead member", m.remove(dead_id)).await;
        self.note("remove it again", m.remove(dead_id)).await;
        self.delete("v2: remove it again", dead_id).await?;
        self.list("list without the dead member").await
    }

    /// Two are left, one is added and never starts; then one is left.
    async fn down_to_one(&mut self) -> Result<()> {
        let members = self.members.clone();
        let m = &members;
        let [_, other, leader] = self.roles();
        let (other_id, own_id) = (self.ids[other], self.ids[leader]);
        let url = format!("http://127.0.0.1:{}", ports::free(1)?[0]);
        let added = self.settled("add a voter", || m.add(&url, false)).await;
        let id = added.context("a voter is added")?;
        let nowhere = "http://127.0.0.1:9";
        self.note("add one more", m.add(nowhere, false)).await;
        self.note("remove one of two that run", m.remove(other_id))
            .await;
        self.note("promote a voter that never started", m.promote(id))
            .await;
        self.note("remove what never started", m.remove(id)).await;
        self.settled("remove one of two", || m.remove(other_id))
            .await;
        self.note("remove the last", m.remove(own_id)).await;
        self.delete("v2: remove the last", own_id).await?;
        self.list("list of the last").await
    }

    /// Waits until the leader has detected the dead member.
    async fn gone(&self, before: usize) -> Result<()> {
        let begin = Instant::now();
        let leader = &self.cluster.members[self.leader];
        while !GONE
            .iter()
            .any(|line| leader.log()[before..].contains(line))
        {
            ensure!(begin.elapsed() < LIMIT, "{}", leader.log_tail());
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Records names and roles; ids and ports differ.
    async fn list(&mut self, name: &'static str) -> Result<()> {
        let list = self.members.list().await?;
        let mut list: Vec<String> = list
            .into_iter()
            .map(|member| {
                let moved = member
                    .peer_ur_ls
                    .iter()
                    .any(|url| url.contains("localhost"));
                let role = if member.is_learner {
                    "learner"
                } else {
                    "voter"
                };
                let started = !member.name.is_empty();
                format!("{role}, started {started}, moved {moved}")
            })
            .collect();
        list.sort();
        self.answers.push((name, list.join("; ")));
        Ok(())
    }

    /// `DELETE /v2/members/ID`: status and body, without the id.
    async fn delete(&mut self, name: &'static str, id: u64) -> Result<()> {
        let url = &self.cluster.members[self.leader].client_url;
        let request = Request::new("DELETE", format!("/v2/members/{id:x}"));
        let reply = Client::new(url).ask(&request).await?;
        let body = reply.text().replace(&format!("{id:x}"), "ID");
        self.answers
            .push((name, format!("{} {body}", reply.status)));
        Ok(())
    }
}
