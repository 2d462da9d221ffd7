//! python-etcd 0.4.5's own integration suite, run with Keelson under the name `etcd`, and with
//! proxies for it.
//!
//! `.ci/run` installs the suite into `target/python-etcd`; by hand:
//! `python3 -m pip install --target target/python-etcd python-etcd==0.4.5 'urllib3<2'`.
//! The suite uses ports 6001 to 6003 and 8001 to 8003.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::environment;
use keelson_tests::proc::binary;
use keelson_tests::proc::process::Process;
use tokio::sync::Mutex;

/// The names, one on each line.
const GOLDEN: &str = include_str!("../../golden/python_etcd.txt");

const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/python-etcd/run.py");

/// Tests that compare addresses, or leave the given address: not for a proxy.
const OF_MEMBERS: [&str; 3] = ["test_machines", "test_leader", "TestClusterFunctions"];

/// The suite's ports are fixed.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The suite takes half a minute, nearly all of it asleep.
const LIMIT: Duration = Duration::from_secs(240);

fn golden() -> Vec<&'static str> {
    let lines = GOLDEN.lines();
    lines.filter(|line| !line.starts_with('#')).collect()
}

/// Python and the installed suite, or `None` with a printed reason.
fn suite_or_skip() -> Result<Option<(PathBuf, PathBuf)>> {
    let python = binary::on_path("python3");
    let site = binary::target_dir()?.join("python-etcd");
    let reason = match python {
        Some(python) if site.join("etcd").is_dir() => return Ok(Some((python, site))),
        Some(_) => format!("{} has no python-etcd", site.display()),
        None => "python3 not on PATH".to_string(),
    };
    if environment::setting("CI").is_some_and(|ci| ci == "true") {
        bail!("{reason}, and CI=true allows no skipping");
    }
    eprintln!("skipped: {reason}");
    Ok(None)
}

/// A directory with our binary as `etcd`. It is a script, so that members end with the suite, and
/// since a real etcd needs a flag to enable v2; ours needs none.
fn named_etcd(dir: &Path, script: &str) -> Result<()> {
    let ours = binary::ours()?;
    let real = ours.file_name().is_some_and(|name| name == "etcd");
    let flag = if real { "--enable-v2=true" } else { "" };
    let run = format!("setpriv --pdeathsig KILL -- '{}' {flag}", ours.display());
    let path = dir.join("etcd");
    fs::write(&path, script.replace("RUN", &run))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The member itself.
const MEMBER: &str = "#!/bin/sh\nexec RUN \"$@\"\n";

/// The member a hundred ports up, and a proxy in its place; they end together. The suite begins
/// with `-data-dir <dir>`, and of two flags with one name the last one has precedence.
const PROXY: &str = r#"#!/bin/sh
member=$(printf '%s\n' "$@" | sed 's#^http://127.0.0.1:600#http://127.0.0.1:610#')
RUN $member &
exec RUN "$@" -proxy on -data-dir "$2/of-the-proxy"
"#;

#[tokio::test]
async fn what_passes_with_etcd_passes_with_us() -> Result<()> {
    passes(MEMBER, &golden()).await
}

#[tokio::test]
async fn what_passes_with_members_passes_through_proxies() -> Result<()> {
    let of_members = |name: &&str| OF_MEMBERS.iter().any(|word| name.contains(word));
    let names: Vec<&str> = golden()
        .into_iter()
        .filter(|name| !of_members(name))
        .collect();
    passes(PROXY, &names).await
}

async fn passes(script: &str, names: &[&str]) -> Result<()> {
    let Some((python, site)) = suite_or_skip()? else {
        return Ok(());
    };
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir()?;
    named_etcd(dir.path(), script)?;
    let path = environment::setting("PATH").unwrap_or_default();
    let variables = [
        format!("PATH={}:{path}", dir.path().display()),
        format!("PYTHONPATH={}", site.display()),
        format!("TMPDIR={}", dir.path().display()),
    ];
    let mut args: Vec<String> = variables.to_vec();
    args.push(python.display().to_string());
    args.extend(["-W", "ignore", RUNNER].map(str::to_string));
    args.extend(names.iter().map(ToString::to_string));
    let log = dir.path().join("log");
    let mut suite = Process::start(Path::new("/usr/bin/env"), &args, &log)?;
    let ended = suite.wait(LIMIT).await;
    let log = fs::read_to_string(&log)?;
    let said = |word: &str| -> Vec<&str> {
        let lines = log.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(str::trim).collect()
    };
    let (passed, failed) = (said("ok "), said("FAIL "));
    ensure!(
        failed.is_empty() && ended.is_ok(),
        "{failed:?} failed, {ended:?}\n{}",
        explain(&log)
    );
    for name in names {
        ensure!(
            passed.contains(name),
            "{name} did not run\n{}",
            explain(&log)
        );
    }
    println!("{} tests of python-etcd pass", passed.len());
    Ok(())
}

/// The log without the members' own lines.
fn explain(log: &str) -> String {
    let lines = log.lines().filter(|line| {
        let dated = line.starts_with(|first: char| first.is_ascii_digit() || first == '{');
        !dated && !line.starts_with("raft")
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The golden names must occur in the suite: a misspelt name would never be missed.
#[test]
fn the_golden_names_are_tests_of_the_suite() -> Result<()> {
    let Some((_, site)) = suite_or_skip()? else {
        return Ok(());
    };
    let tests = site.join("etcd/tests/integration/test_simple.py");
    let text = fs::read_to_string(tests)?;
    for name in golden() {
        let test = name.rsplit('.').next().context("no name")?;
        ensure!(text.contains(&format!("def {test}(self)")), "{name}");
    }
    Ok(())
}
