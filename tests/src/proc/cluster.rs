//! N members that form a cluster on free loopback ports.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keelson_proto::etcdserverpb::RangeRequest;
use tempfile::TempDir;

use super::client;
use super::member::Member;
use super::ports;

/// Time limit for members to serve. Generous: a debug build on a loaded machine.
pub const READY_LIMIT: Duration = Duration::from_secs(60);

/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(50);

/// The cluster to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's binary: ours, or an etcd.
    pub binary: PathBuf,
    /// The number of members.
    pub members: usize,
    /// Flags beyond those that make a cluster.
    pub extra: Vec<String>,
    /// The parent of the directory with data and logs; the system's temporary one if not set.
    pub parent: Option<PathBuf>,
}

impl Plan {
    /// `members` members of `binary` with default settings.
    pub fn new(binary: &Path, members: usize) -> Plan {
        Plan {
            binary: binary.to_path_buf(),
            members,
            extra: Vec::new(),
            parent: None,
        }
    }

    /// Truncates logs early: a member that was down for a few hundred entries needs a snapshot.
    pub fn cut_early(self) -> Plan {
        self.flag("--snapshot-count=100")
            .flag("--snapshot-catchup-entries=10")
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: impl Into<String>) -> Plan {
        self.extra.push(flag.into());
        self
    }
}

/// A cluster of child processes; dropping it ends them and removes their data.
#[derive(Debug)]
pub struct Cluster {
    /// The members, in the order of their names.
    pub members: Vec<Member>,
    // Declared after the members: their processes must end before their directory is removed.
    dir: TempDir,
}

impl Cluster {
    /// Starts every member and waits until each serves.
    ///
    /// # Errors
    /// A member does not start or does not serve in time; the text holds the ends of the logs.
    pub async fn start(plan: &Plan) -> Result<Cluster> {
        Cluster::start_named(plan, "m").await
    }

    /// [`Cluster::start`] with another beginning of the members' names, before their numbers.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_named(plan: &Plan, name: &str) -> Result<Cluster> {
        let mut cluster = Cluster::create_named(plan, name)?;
        for member in &mut cluster.members {
            member.start()?;
        }
        cluster.wait_ready(READY_LIMIT).await?;
        Ok(cluster)
    }

    /// Makes the members' descriptions and the directory; starts nothing.
    ///
    /// # Errors
    /// No free ports, or no directory.
    pub fn create(plan: &Plan) -> Result<Cluster> {
        Cluster::create_named(plan, "m")
    }

    fn create_named(plan: &Plan, name: &str) -> Result<Cluster> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("keelson-cluster-");
        let dir = match &plan.parent {
            Some(parent) => builder.tempdir_in(parent)?,
            None => builder.tempdir()?,
        };
        let ports = ports::free(2 * plan.members)?;
        let mut members = Vec::new();
        for (number, pair) in ports.chunks_exact(2).enumerate() {
            let name = format!("{name}{}", number + 1);
            members.push(Member::new(
                &plan.binary,
                dir.path(),
                name,
                pair[0],
                pair[1],
            ));
        }
        let initial = initial_cluster(&members);
        // Ports are reused: the token separates the members of two runs.
        let token = dir.path().display().to_string();
        for member in &mut members {
            member.configure((&initial, "new"), &token, &plan.extra);
        }
        Ok(Cluster { members, dir })
    }

    /// Describes one more member, with ports and a name of its own; returns its number. It is to be
    /// added to the cluster and then started by [`Cluster::join`].
    ///
    /// # Errors
    /// No free ports.
    pub fn describe(&mut self, binary: &Path, name: &str) -> Result<usize> {
        let ports = ports::free(2)?;
        let name = name.to_owned();
        let member = Member::new(binary, self.dir.path(), name, ports[0], ports[1]);
        self.members.push(member);
        Ok(self.members.len() - 1)
    }

    /// Starts a member with the state `existing` and the present URLs of `members`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn join(&mut self, number: usize, extra: &[String]) -> Result<()> {
        let initial = initial_cluster(&self.members);
        let token = self.dir.path().display().to_string();
        self.members[number].configure((&initial, "existing"), &token, extra);
        self.members[number].start()
    }

    /// The directory with the members' data and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Client URLs of all members, running or not.
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client_url.clone())
            .collect()
    }

    /// Process ids of the running members.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(Member::pid).collect()
    }

    /// The numbers of the running members.
    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|number| self.members[*number].running())
            .collect()
    }

    /// Waits until every running member answers a linearizable read.
    ///
    /// # Errors
    /// One ends by itself or does not answer in time.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        for number in self.running() {
            let url = self.members[number].client_url.clone();
            while let Err(error) = probe(&url).await {
                self.members[number].alive()?;
                if Instant::now() > deadline {
                    let tails = self.log_tails();
                    bail!("{url} does not serve after {limit:?}: {error}\n{tails}");
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The number of the leader, as the running members report it.
    ///
    /// # Errors
    /// They report no leader in time.
    pub async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            for number in self.running() {
                let status = client::status(&self.members[number].client_url).await;
                if let Ok(status) = status
                    && status
                        .header
                        .is_some_and(|header| header.member_id == status.leader)
                {
                    return Ok(number);
                }
            }
            if Instant::now() > deadline {
                bail!("no leader after {READY_LIMIT:?}\n{}", self.log_tails());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills the member with signal 9.
    pub fn kill(&mut self, number: usize) {
        self.members[number].kill();
    }

    /// Starts every member that is down and waits until all serve.
    ///
    /// # Errors
    /// One does not come back in time.
    pub async fn restart_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            if !member.running() {
                member.start()?;
            }
        }
        self.wait_ready(READY_LIMIT).await
    }

    /// The ends of all members' logs.
    pub fn log_tails(&self) -> String {
        self.members.iter().map(Member::log_tail).collect()
    }
}

/// The value of `--initial-cluster`.
fn initial_cluster(members: &[Member]) -> String {
    let entries = members
        .iter()
        .map(|member| format!("{}={}", member.name, member.peer_url));
    entries.collect::<Vec<_>>().join(",")
}

/// One linearizable read: it succeeds when the member serves and has a leader with a quorum.
async fn probe(url: &str) -> Result<()> {
    let mut kv = client::kv(url).await?;
    let request = RangeRequest {
        key: "probe".into(),
        ..Default::default()
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), kv.range(request)).await;
    answer.context("no answer")??;
    Ok(())
}
