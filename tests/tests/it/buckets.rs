//! Scheduled snapshots in a bucket of an S3 server: moto's, which `.ci/peers` installs into
//! `target/moto`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::PutRequest;
use keelson_tests::environment;
use keelson_tests::http::{Client, Request};
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::member::Member;
use keelson_tests::proc::process::Process;
use keelson_tests::proc::{binary, client, ports};
use tokio::process::Command;

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Objects of another program. `object_store` cannot represent the name of the second one.
const FOREIGN: [&str; 2] = ["snapshot-mine.db", "z//x"];

/// Python and the directory with moto, or `None` with a printed reason.
fn moto_or_skip() -> Result<Option<(PathBuf, PathBuf)>> {
    let site = binary::target_dir()?.join("moto");
    let reason = match binary::on_path("python3") {
        Some(python) if site.join("complete").is_file() => return Ok(Some((python, site))),
        Some(_) => format!("{} has no moto", site.display()),
        None => "python3 not on PATH".to_owned(),
    };
    if environment::setting("CI").is_some_and(|ci| ci == "true") {
        bail!("{reason}, and CI=true allows no skipping");
    }
    eprintln!("skipped: {reason}");
    Ok(None)
}

/// A server with one bucket, which has objects of another program.
struct Moto {
    process: Process,
    url: String,
    _dir: tempfile::TempDir,
}

impl Moto {
    async fn start(python: &Path, site: &Path) -> Result<Moto> {
        let dir = tempfile::tempdir()?;
        let port = ports::free(1)?[0].to_string();
        let args = ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port].map(str::to_owned);
        let path = ("PYTHONPATH".to_owned(), site.display().to_string());
        let process = Process::start_with(python, &args, &[path], &dir.path().join("log"))?;
        let mut moto = Moto {
            process,
            url: format!("http://127.0.0.1:{port}"),
            _dir: dir,
        };
        let begin = Instant::now();
        while moto
            .ask(Request::new("PUT", "/backups").body(""))
            .await
            .is_err()
        {
            ensure!(moto.process.exited()?.is_none(), "moto does not start");
            ensure!(begin.elapsed() < LIMIT, "moto does not serve");
            tokio::time::sleep(POLL).await;
        }
        for name in FOREIGN {
            let foreign = Request::new("PUT", format!("/backups/m1/{name}")).body("mine");
            moto.ask(foreign).await?;
        }
        Ok(moto)
    }

    async fn ask(&self, request: Request) -> Result<Vec<u8>> {
        let reply = Client::new(&self.url).ask(&request).await?;
        ensure!(
            reply.status == 200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        Ok(reply.body)
    }

    /// The names below `m1/`, the oldest first.
    async fn names(&self) -> Result<Vec<String>> {
        let listed = self
            .ask(Request::get("/backups?list-type=2&prefix=m1/"))
            .await?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let keys = listed.split("<Key>m1/").skip(1);
        let names = keys.filter_map(|rest| Some(rest.split_once('<')?.0.to_owned()));
        Ok(names.collect())
    }

    /// Whether an upload is begun, and neither completed nor given up.
    async fn has_uploads(&self) -> Result<bool> {
        let uploads = self.ask(Request::get("/backups?uploads")).await?;
        Ok(String::from_utf8_lossy(&uploads).contains("<Upload>"))
    }

    /// What a process needs to use it.
    fn variables(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    async fn util(&self, ours: &Path, args: &[&str]) -> Result<String> {
        let mut command = Command::new(ours);
        command.arg("util").args(args).envs(self.variables());
        let output = command.kill_on_drop(true).output().await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{args:?}: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

async fn put(url: &str, value: Vec<u8>) -> Result<()> {
    let put = PutRequest {
        key: "key".into(),
        value: value.into(),
        ..PutRequest::default()
    };
    client::kv(url).await?.put(put).await?;
    Ok(())
}

/// A stop gives an upload up that is under way.
async fn stop_in_an_upload(moto: &Moto, member: &mut Member) -> Result<()> {
    let begin = Instant::now();
    while !moto.has_uploads().await? {
        ensure!(begin.elapsed() < LIMIT, "no upload is seen");
    }
    member.terminate()?;
    member.stopped().await?;
    ensure!(
        !moto.has_uploads().await? || member.log().contains("parts of an upload may be left"),
        "parts are left, and the log does not state so"
    );
    Ok(())
}

#[tokio::test]
async fn a_bucket_gets_whole_snapshots_and_keeps_the_newest() -> Result<()> {
    let ours = binary::ours()?;
    let Some((python, site)) = moto_or_skip()?.filter(|_| !ours.ends_with("etcd")) else {
        return Ok(());
    };
    let moto = Moto::start(&python, &site).await?;
    let mut cluster = Cluster::create(&Plan::new(&ours, 1))?;
    let dir = cluster.dir().to_owned();
    let member = &mut cluster.members[0];
    let url = member.client_url.clone();
    member.set_variables(&moto.variables());
    member.add_flags(&[
        "--backup-dir=s3://backups/m1",
        "--backup-interval=1s",
        "--backup-keep=1",
    ]);
    cluster.restart_all().await?;
    // More than two parts.
    for number in 0..17 {
        put(&url, vec![number; 1 << 20]).await?;
    }
    // The first of two new ones may have been begun before the last put.
    let (mut seen, begin) = (BTreeSet::from_iter(moto.names().await?), Instant::now());
    let mut new = 0;
    loop {
        let names = moto.names().await?;
        ensure!(begin.elapsed() < LIMIT, "{names:?}");
        new += names
            .iter()
            .filter(|name| seen.insert((*name).clone()))
            .count();
        // Older ones are removed, and what is not ours stays.
        let are_left = FOREIGN
            .iter()
            .all(|name| names.iter().any(|one| one == name));
        if 2 <= new && names.len() == 3 && are_left {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    stop_in_an_upload(&moto, &mut cluster.members[0]).await?;
    let names = moto.names().await?;
    let newest = names.iter().rfind(|name| !FOREIGN.contains(&&***name));
    let newest = newest.context("no snapshot")?;
    let content = moto
        .ask(Request::get(format!("/backups/m1/{newest}")))
        .await?;
    ensure!(17 << 20 < content.len(), "{} bytes", content.len());
    let file = dir.join("downloaded.db").display().to_string();
    std::fs::write(&file, content)?;
    let object = format!("s3://backups/m1/{newest}");
    for command in ["status", "hashkv"] {
        let of_object = moto.util(&ours, &["snapshot", command, &object]).await?;
        let of_file = moto.util(&ours, &["snapshot", command, &file]).await?;
        ensure!(of_object == of_file, "{of_object}{of_file}");
    }
    let data = dir.join("restored").display().to_string();
    let restore = ["snapshot", "restore", &object, "--data-dir", &data];
    let restored = moto.util(&ours, &restore).await.context("restore")?;
    ensure!(restored.contains("revision 1000000018"), "{restored}");
    Ok(())
}
