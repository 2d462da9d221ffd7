//! The own suite of the crate etcd-client 0.21, a client of the v3 API, against a member.
//!
//! `.ci/peers` builds it into `target/rust-client`.

use anyhow::{Result, bail, ensure};
use keelson_tests::environment;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};

use super::python_v3::{explain, run, variables};

/// Tests that are left out.
const EXCLUDED: [&str; 4] = [
    // It needs a cluster, and a fourth member that is started meanwhile.
    "test_cluster",
    // They need a root user that the suite does not create: etcd fails them too.
    "test_auth",
    "test_auth_refresh_token",
    "test_auth_refresh_token_once_for_concurrent_calls",
];

/// Runs one of the suite's programs, which must report so many passed tests.
async fn passes(program: &str, passed: usize) -> Result<()> {
    let site = binary::target_dir()?.join("rust-client");
    if !site.join("complete").is_file() {
        if environment::setting("CI").is_some_and(|ci| ci == "true") {
            bail!(
                "{} has no suite, and CI=true allows no skipping",
                site.display()
            );
        }
        eprintln!("skipped: {} has no suite", site.display());
        return Ok(());
    }
    let cluster = Cluster::start(&Plan::new(&binary::ours()?, 1)).await?;
    let endpoint = cluster.members[0].client_url.trim_start_matches("http://");
    let variables = variables(&[("ETCD_ENDPOINT", endpoint)]);
    // Two tests are ignored there, since they need what came with etcd 3.7.
    let mut args = vec!["--include-ignored".to_owned(), "--exact".to_owned()];
    for name in EXCLUDED {
        args.extend(["--skip".to_owned(), name.to_owned()]);
    }
    let log = run(&site.join(program), &args, &variables).await?;
    ensure!(
        log.contains(&format!(" {passed} passed; 0 failed")),
        "{}",
        explain(&log)
    );
    Ok(())
}

#[tokio::test]
async fn etcd_client_passes_its_tests_with_us() -> Result<()> {
    passes("client", 24).await
}

#[tokio::test]
async fn etcd_client_passes_its_tests_of_namespaces_with_us() -> Result<()> {
    passes("namespace", 1).await
}
