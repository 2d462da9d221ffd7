//! The own suites of Python clients of the v3 API against a member: etcd3gw 2.7 (JSON), tooz 9.1
//! (by etcd3gw), and etcd3 0.12 (gRPC).
//!
//! `.ci/peers` installs them into `target/python-v3`. With `KEELSON_BIN=/usr/bin/etcd` they run
//! against etcd.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::environment;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::process::Process;

const TESTS: &str = env!("CARGO_MANIFEST_DIR");

/// A suite takes half a minute, nearly all of it asleep.
const LIMIT: Duration = Duration::from_secs(240);

/// The processes among which the tests of etcd3 and tooz are divided, each with a member of its
/// own.
const SHARES: usize = 3;

/// Python and the installed suites, or `None` with a printed reason.
fn suites_or_skip() -> Result<Option<(PathBuf, PathBuf)>> {
    let python = binary::on_path("python3");
    let site = binary::target_dir()?.join("python-v3");
    let reason = match python {
        Some(python) if site.join("complete").is_file() && site.join("tooz").is_dir() => {
            return Ok(Some((python, site)));
        }
        Some(_) => format!("{} has no etcd3, etcd3gw and tooz", site.display()),
        None => "python3 not on PATH".to_string(),
    };
    if environment::setting("CI").is_some_and(|ci| ci == "true") {
        bail!("{reason}, and CI=true allows no skipping");
    }
    eprintln!("skipped: {reason}");
    Ok(None)
}

/// Runs a suite to its end, and returns its output.
pub(super) async fn run(
    program: &Path,
    args: &[String],
    variables: &[(String, String)],
) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let mut suite = Process::start_with(program, args, variables, &log)?;
    let ended = suite.wait(LIMIT).await;
    let log = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let passed = ended.as_ref().is_ok_and(std::process::ExitStatus::success);
    ensure!(passed, "{ended:?}\n{}", explain(&log));
    Ok(log)
}

/// The log, with its long lines cut.
pub(super) fn explain(log: &str) -> String {
    let cut = |line: &str| line.chars().take(200).collect::<String>() + "\n";
    log.lines().map(cut).collect()
}

pub(super) fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[tokio::test]
async fn etcd3gw_passes_its_tests_with_us() -> Result<()> {
    let Some((python, site)) = suites_or_skip()? else {
        return Ok(());
    };
    let cluster = Cluster::start(&Plan::new(&binary::ours()?, 1)).await?;
    let url = &cluster.members[0].client_url;
    let (_, port) = url.rsplit_once(':').context("a URL without a port")?;
    let variables = variables(&[
        ("PYTHONPATH", &site.display().to_string()),
        ("TOOZ_TEST_HTTP_URL", url),
        ("TOOZ_TEST_ETCD_PORT", port),
    ]);
    let script = format!("{TESTS}/data/python-v3/etcd3gw_suite.py");
    let log = run(&python, &[script], &variables).await?;
    let ran = log.lines().find(|line| line.starts_with("Ran 39 tests"));
    ensure!(
        ran.is_some() && !log.contains("skipped"),
        "{}",
        explain(&log)
    );
    Ok(())
}

#[tokio::test]
async fn etcd3_passes_its_tests_with_us() -> Result<()> {
    let Some((python, site)) = suites_or_skip()? else {
        return Ok(());
    };
    if binary::or_skip("etcdctl")?.is_none() {
        return Ok(());
    }
    let shares = (0..SHARES).map(|share| {
        let (python, site) = (python.clone(), site.clone());
        tokio::spawn(async move { etcd3(&python, &site, share).await })
    });
    let shares: Vec<_> = shares.collect();
    for share in shares {
        let log = share.await??;
        ensure!(log.contains(" passed"), "{}", explain(&log));
    }
    Ok(())
}

async fn etcd3(python: &Path, site: &Path, share: usize) -> Result<String> {
    let binary = binary::ours()?;
    let cluster = match share {
        // As pifpaf would start them: `test_member_list` is in the first share.
        0 => Cluster::start_named(&Plan::new(&binary, 3), "pifpaf").await?,
        _ => Cluster::start(&Plan::new(&binary, 1)).await?,
    };
    let data = format!("{TESTS}/data/python-v3");
    let variables = variables(&[
        ("PYTHONPATH", &format!("{}:{data}", site.display())),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHON_ETCD_HTTP_URL", &cluster.members[0].client_url),
        // Some tests are for later releases than 3.2.8.
        ("TEST_ETCD_VERSION", "v3.4.23"),
        ("ETCD3_SHARE", &format!("{share}/{SHARES}")),
        (
            "ETCD3_EXCLUDED",
            &format!("{TESTS}/golden/python_etcd3_excluded.txt"),
        ),
    ]);
    // The suite names its certificates relative to its directory.
    let suite = site.join("etcd3-0.12.0").display().to_string();
    let python = python.display().to_string();
    let args = [
        "-C",
        &suite,
        &python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    ];
    let more = ["-p", "etcd3_share", "tests/test_etcd3.py"];
    let args: Vec<String> = args.into_iter().chain(more).map(str::to_owned).collect();
    run(Path::new("/usr/bin/env"), &args, &variables).await
}

#[tokio::test]
async fn tooz_passes_its_tests_with_us() -> Result<()> {
    let Some((python, site)) = suites_or_skip()? else {
        return Ok(());
    };
    let shares = (0..SHARES).map(|share| {
        let (python, site) = (python.clone(), site.clone());
        tokio::spawn(async move { tooz(&python, &site, share).await })
    });
    let shares: Vec<_> = shares.collect();
    for share in shares {
        let log = share.await??;
        ensure!(
            log.contains("Ran 28 tests") || log.contains("Ran 29 tests"),
            "{}",
            explain(&log)
        );
    }
    Ok(())
}

async fn tooz(python: &Path, site: &Path, share: usize) -> Result<String> {
    let cluster = Cluster::start(&Plan::new(&binary::ours()?, 1)).await?;
    let variables = variables(&[
        ("PYTHONPATH", &site.display().to_string()),
        // The suite makes an etcd3+http:// URL of it.
        (
            "TOOZ_TEST_URL",
            &cluster.members[0].client_url.replace("http://", "etcd://"),
        ),
        ("TOOZ_TEST_ETCD3GW", "1"),
        ("TOOZ_SHARE", &format!("{share}/{SHARES}")),
    ]);
    let script = format!("{TESTS}/data/python-v3/tooz_suite.py");
    run(python, &[script], &variables).await
}
