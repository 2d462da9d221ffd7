//! All five members lose their disks, one after the other, and `keelson replace` replaces each
//! under load.

use std::process::Stdio;

use keelson_tests::chaos::members::{Members, id_of};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::*;

/// The number of writers: two cores run five members of a debug build beside them.
const WRITERS: usize = 8;

/// The command, running.
struct Replacing {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Replacing {
    fn start(name: &str, endpoints: &[String]) -> Result<Replacing> {
        let mut child = Command::new(binary::ours()?)
            .args(["replace", name, "--endpoints", &endpoints.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("a pipe")?;
        let output = BufReader::new(output).lines();
        Ok(Replacing { child, output })
    }

    /// Reads lines until one begins so.
    async fn printed(&mut self, beginning: &str) -> Result<String> {
        let mut seen = Vec::new();
        let reading = async {
            while let Some(line) = self.output.next_line().await? {
                if line.starts_with(beginning) {
                    return Ok(line);
                }
                seen.push(line);
            }
            anyhow::bail!("the output ended")
        };
        let read = tokio::time::timeout(LIMIT, reading).await;
        let found = read.unwrap_or_else(|_| Err(anyhow::Error::msg("no further line")));
        found.with_context(|| format!("no line {beginning:?} after {seen:#?}"))
    }

    /// Waits for its end, which must be a success without a line on standard error.
    async fn finished(self) -> Result<()> {
        let output = tokio::time::timeout(LIMIT, self.child.wait_with_output()).await??;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && errors.is_empty(), "{errors}");
        Ok(())
    }

    async fn interrupted(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

#[tokio::test]
async fn five_members_that_lose_their_disks_one_by_one_are_replaced_under_writes() -> Result<()> {
    if binary::ours()?.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let mut cluster = start(5).await?;
    let first_leader = cluster.leader().await?;
    let urls = cluster.endpoints();
    let mut old_ids = Vec::new();
    for url in &urls {
        old_ids.push(id_of(url).await?);
    }
    let fleet = Fleet::start(&urls, WRITERS, "replace/");
    fleet.progress(100, LIMIT).await?;
    for step in 0..5 {
        let at = Instant::now();
        let number = (first_leader + step) % 5;
        let name = cluster.members[number].name.clone();
        let mut others = urls.clone();
        others.remove(number);
        cluster.kill(number);
        cluster.members[number].lose_disk()?;
        let mut replacing = Replacing::start(&name, &others)?;
        replacing
            .printed("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
            .await?;
        if step == 0 {
            // The list of members shows the next command where this one was.
            replacing.interrupted().await?;
            replacing = Replacing::start(&name, &others)?;
            replacing
                .printed("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
                .await?;
        }
        cluster.join(number, &[])?;
        replacing.printed(&format!("{name} (")).await?;
        replacing.finished().await?;
        fleet.progress(100, LIMIT).await?;
        println!("{name} was replaced in {:?}", at.elapsed());
    }
    cluster.wait_ready(LIMIT).await?;
    let ledger = fleet.stop().await;
    let voters = Members::at(&urls[0]).list().await?;
    ensure!(
        voters.len() == 5 && voters.iter().all(|member| !member.is_learner),
        "{voters:?}"
    );
    let is_old = |id: &u64| voters.iter().any(|member| member.id == *id);
    ensure!(!old_ids.iter().any(is_old), "{voters:?}");
    let verdict = verify::verify(&cluster, &ledger, "replace/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
