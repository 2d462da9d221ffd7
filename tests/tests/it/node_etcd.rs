//! The cases of node-etcd 7's own suite, a client of the v2 API, against a member.
//!
//! The suite mocks every answer, so `tests/data/node-etcd` makes its calls to a server instead. The
//! published suite is read for its names: each is run, or left out with a reason. `.ci/peers`
//! installs it into `target/node-etcd`. `KEELSON_BIN=/usr/bin/etcd` runs the cases against etcd.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use keelson_tests::environment;
use keelson_tests::proc::cluster::{Cluster, Plan, READY_LIMIT};
use keelson_tests::proc::{binary, ports};

use super::python_v3::{explain, run, variables};

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/node-etcd/suite.js");

/// The cases that are run.
const PASSED: &str = "53 passed";

/// Node and the installed client, or `None` with a printed reason.
fn suite_or_skip() -> Result<Option<(PathBuf, PathBuf)>> {
    let site = binary::target_dir()?.join("node-etcd");
    let reason = match binary::on_path("node") {
        Some(node) if site.join("complete").is_file() => {
            return Ok(Some((node, site.join("node_modules"))));
        }
        Some(_) => format!("{} has no node-etcd", site.display()),
        None => "node not on PATH".to_string(),
    };
    if environment::setting("CI").is_some_and(|ci| ci == "true") {
        bail!("{reason}, and CI=true allows no skipping");
    }
    eprintln!("skipped: {reason}");
    Ok(None)
}

/// A member with a second client URL for TLS, which is returned as well.
async fn member(binary: &Path) -> Result<(Cluster, String)> {
    let ports = ports::free(2)?;
    let url = format!("http://127.0.0.1:{}", ports[0]);
    let tls_url = format!("https://127.0.0.1:{}", ports[1]);
    let mut plan = Plan::new(binary, 1)
        .flag(format!("--listen-client-urls={url},{tls_url}"))
        .flag(format!("--advertise-client-urls={url}"))
        .flag("--auto-tls");
    if binary.ends_with("etcd") {
        plan = plan.flag("--enable-v2");
    }
    let mut cluster = Cluster::create(&plan)?;
    cluster.members[0].client_url = url;
    cluster.members[0].start()?;
    cluster.wait_ready(READY_LIMIT).await?;
    Ok((cluster, tls_url))
}

#[tokio::test]
async fn node_etcd_passes_its_tests_with_us() -> Result<()> {
    let Some((node, modules)) = suite_or_skip()? else {
        return Ok(());
    };
    let (cluster, tls_url) = member(&binary::ours()?).await?;
    let certificate = cluster.dir().join("m1/fixtures/client/cert.pem");
    let variables = variables(&[
        ("NODE_PATH", &modules.display().to_string()),
        ("ETCD_URL", &cluster.members[0].client_url),
        ("ETCD_TLS_URL", &tls_url),
        ("ETCD_CA", &certificate.display().to_string()),
    ]);
    // node-etcd is of 2018, and node warns of what it is built on.
    let args = ["--no-deprecation", SUITE].map(str::to_owned);
    let log = run(&node, &args, &variables).await?;
    ensure!(log.lines().last() == Some(PASSED), "{}", explain(&log));
    Ok(())
}
