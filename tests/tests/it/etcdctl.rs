//! Debian's etcdctl 3.4.23 with Keelson and with Debian's etcd, and etcdctl 3.5.1 with Keelson and
//! etcd 3.5.1: the same output, the same exit code.
//!
//! Ids, addresses, versions, sizes, terms and log positions are masked; everything else must agree,
//! also through a proxy.

mod accounts;
mod mask;
mod mirror;
mod newer;
mod script;
mod stream;

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::bring_up::Host;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};

use accounts::ACCOUNTS;
use mask::mask_line;
use newer::NEWER;
use script::SCRIPT;
use stream::Stream;

use crate::snapshots;

/// The commands that etcd 3.5.1 answers otherwise, and why. Keelson answers as 3.4.23 and 3.7.
const OTHERWISE_IN_3_5: [(&str, &str); 1] = [(
    "watch a",
    "a watch without a user is refused for want of a permission there",
)];

/// The server that is queried: a cluster of one, or a proxy for it.
struct Side {
    cluster: Cluster,
    proxy: Option<Host>,
    /// The id of the last granted lease, as etcdctl prints it.
    lease: RefCell<String>,
    /// The id of the last added member, as etcdctl prints it.
    added: RefCell<String>,
    /// The commands that are running.
    streams: RefCell<Vec<Stream>>,
}

impl Side {
    async fn start(binary: &Path) -> Result<Side> {
        Ok(Side {
            cluster: Cluster::start(&Plan::new(binary, 1)).await?,
            proxy: None,
            lease: RefCell::default(),
            added: RefCell::default(),
            streams: RefCell::default(),
        })
    }

    async fn behind_a_proxy(binary: &Path) -> Result<Side> {
        let mut side = Side::start(binary).await?;
        let mut proxy = Host::proxy(binary, &side.cluster, "proxy")?;
        proxy.start()?;
        proxy.serves().await?;
        side.proxy = Some(proxy);
        Ok(side)
    }

    fn endpoint(&self) -> &str {
        match &self.proxy {
            Some(proxy) => &proxy.client_url,
            None => &self.cluster.members[0].client_url,
        }
    }

    fn logs(&self) -> String {
        let proxy = self.proxy.as_ref().map(Host::log_tail);
        self.cluster.log_tails() + &proxy.unwrap_or_default()
    }
}

#[tokio::test]
async fn etcdctl_sees_no_difference() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::start(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, SCRIPT)
}

#[tokio::test]
async fn etcdctl_sees_no_difference_through_a_proxy() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::behind_a_proxy(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, SCRIPT)
}

#[tokio::test]
async fn etcdctl_sees_no_difference_in_accounts_and_their_rights() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::start(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, ACCOUNTS)
}

#[tokio::test]
async fn nor_through_a_proxy() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::behind_a_proxy(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, ACCOUNTS)
}

#[tokio::test]
async fn etcdctl_of_3_5_sees_no_difference() -> Result<()> {
    let Some(peer) = snapshots::newer()? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let (ours, theirs) = tokio::join!(Side::start(&ours), Side::start(&peer.server));
    compare_with(&peer.ctl, &ours?, &theirs?, NEWER, &OTHERWISE_IN_3_5)
}

fn compare(ours: &Side, theirs: &Side, script: &str) -> Result<()> {
    let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
    compare_with(&etcdctl, ours, theirs, script, &[])
}

/// Runs the script on both. The commands of `otherwise` must differ.
fn compare_with(
    etcdctl: &Path,
    ours: &Side,
    theirs: &Side,
    script: &str,
    otherwise: &[(&str, &str)],
) -> Result<()> {
    let mut differences = String::new();
    for line in script.lines().filter(|line| !line.is_empty()) {
        let our = run(etcdctl, ours, line)?;
        let their = run(etcdctl, theirs, line)?;
        let differs = otherwise.iter().any(|(command, _)| *command == line);
        if (our != their) != differs {
            differences += &format!("$ etcdctl {line}\n--- ours\n{our}\n--- etcd's\n{their}\n\n");
        }
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}

/// Every member of a cluster answers etcdctl, and all name the same leader.
#[tokio::test]
async fn etcdctl_may_ask_any_member() -> Result<()> {
    if binary::etcd_or_skip()?.is_none() {
        return Ok(());
    }
    let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
    let cluster = Cluster::start(&Plan::new(&binary::ours()?, 3)).await?;
    for (number, endpoint) in cluster.endpoints().iter().enumerate() {
        let (code, out, _) = call(&etcdctl, endpoint, &["put", "key", &number.to_string()], "")?;
        ensure!((code, out.trim()) == (0, "OK"), "{endpoint}: {out}");
        for reader in cluster.endpoints() {
            let (_, out, _) = call(&etcdctl, &reader, &["get", "key", "--print-value-only"], "")?;
            ensure!(out.trim() == number.to_string(), "{reader}: {out}");
        }
    }
    let all = cluster.endpoints().join(",");
    let (code, out, _) = call(&etcdctl, &all, &["endpoint", "status"], "")?;
    let leaders = out
        .lines()
        .filter(|line| line.split(", ").nth(4) == Some("true"))
        .count();
    ensure!((code, leaders) == (0, 1), "{out}");
    let (code, out, err) = call(&etcdctl, &all, &["endpoint", "health"], "")?;
    let healthy = (out.clone() + &err).matches(" is healthy").count();
    ensure!((code, healthy) == (0, 3), "{out}{err}");
    let (code, out, _) = call(&etcdctl, &all, &["member", "list"], "")?;
    ensure!(
        (code, out.matches(", started, ").count()) == (0, 3),
        "{out}"
    );
    Ok(())
}

/// Runs a line of the script; returns the masked outcome.
fn run(etcdctl: &Path, side: &Side, line: &str) -> Result<String> {
    let line = line.replace("{lease}", &side.lease.borrow());
    let line = line.replace("{added}", &side.added.borrow());
    if line == "stop" {
        let last = side.streams.borrow_mut().pop().context("nothing runs")?;
        return Ok(mask(side, &last.stop()?, ""));
    }
    let (kept, line) = match line.strip_prefix("& ") {
        Some(rest) => (true, rest),
        None => (false, &line[..]),
    };
    let (line, expected) = line.split_once(" ~ ").unwrap_or((line, ""));
    let (arguments, input) = line.split_once(" <<< ").unwrap_or((line, ""));
    let input = input.replace("\\n", "\n");
    if !expected.is_empty() {
        let stream = Stream::start(etcdctl, side.endpoint(), arguments, &input, expected)?;
        if kept {
            side.streams.borrow_mut().push(stream);
            return Ok(String::new());
        }
        return Ok(mask(side, &stream.stop()?, arguments));
    }
    let words: Vec<&str> = arguments.split(' ').collect();
    let (code, out, err) = call(etcdctl, side.endpoint(), &words, &input)?;
    for (last, (before, after)) in [
        (&side.lease, ("lease ", " granted")),
        (&side.added, ("Member ", " added")),
    ] {
        let id = out
            .strip_prefix(before)
            .and_then(|rest| rest.split_once(after));
        if let Some((id, _)) = id {
            last.replace(id.trim().to_owned());
        }
    }
    Ok(mask(
        side,
        &format!("exit code {code}\n{out}\n{err}"),
        arguments,
    ))
}

fn mask(side: &Side, text: &str, arguments: &str) -> String {
    let lines = text.lines();
    let masked = lines.filter_map(|line| mask_line(&mask_urls(side, line), arguments));
    masked.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Runs etcdctl: exit code, standard output, standard error.
fn call(
    etcdctl: &Path,
    endpoints: &str,
    arguments: &[&str],
    input: &str,
) -> Result<(i32, String, String)> {
    let mut command = Command::new(PathBuf::from(etcdctl));
    command
        .env("ETCDCTL_API", "3")
        .arg("--endpoints")
        .arg(endpoints)
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    // etcdctl gives up by itself after 5 s.
    let output = child.wait_with_output()?;
    let Some(code) = output.status.code() else {
        bail!("etcdctl {arguments:?} ended with {}", output.status);
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((code, text(output.stdout), text(output.stderr)))
}

fn mask_urls(side: &Side, line: &str) -> String {
    let host = |url: &str| url.trim_start_matches("http://").to_string();
    // For etcdctl this server is the address of client 0.
    let mut line = line.replace(&host(side.endpoint()), "CLIENT0");
    let lease = side.lease.borrow();
    if let Ok(id) = i64::from_str_radix(&lease, 16) {
        line = line.replace(&*lease, "LEASE").replace(&id.to_string(), "0");
    }
    for (number, member) in side.cluster.members.iter().enumerate() {
        line = line.replace(&host(&member.client_url), &format!("CLIENT{number}"));
        line = line.replace(&host(&member.peer_url), &format!("PEER{number}"));
    }
    line
}
