//! Debian's etcdctl 3.4.23 with `ETCDCTL_API=2` against us and against Debian's etcd: the same
//! output, the same errors, the same exit codes.
//!
//! Member ids and addresses are masked; everything else must agree, also through a proxy. `backup` is not here: it reads
//! etcd's own files, and our data directory holds none.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_tests::bring_up::Host;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};

/// What etcdctl is told, a line a command; `'` holds words together, and what it reads from
/// standard input follows ` <<< `.
const KEYS: &str = r#"
ls
get /a
set /a 1
set /a 2
set a 3
-o json set /a 4
-o extended set /a 5
get /a
get a
-o json get /a
-o extended get /a
get --quorum /a
get --sort /a
set /spaces 'two words'
get /spaces
set /stdin <<< from standard input
get /stdin
set /empty ''
get /empty
set /ttl value --ttl 1000
set /swap 1 --swap-with-value 0
set /a 6 --swap-with-value 5
set /a 7 --swap-with-value wrong
set /a 8 --swap-with-index 9
set /a 8 --swap-with-index 999
mk /made 1
mk /made 2
mk /made/below 3
mk /ttl2 1 --ttl 1000
mk --in-order /queue one
mk --in-order /queue two
-o json mk --in-order /queue three
mkdir /dir
mkdir /dir
mkdir /deep/er/est
mkdir /short --ttl 1000
setdir /dir
setdir /dir2 --ttl 1000
setdir /a
updatedir /dir2 --ttl 2000
updatedir /nodir
updatedir /a
update /a 9
update /nokey 1
update /a 10 --ttl 1000
update /dir 1
set /dir 1
set /dir/x 1
set /dir/y 2
set /dir/_hidden 3
set /_hid/den 4
ls --sort
ls --sort /
ls --sort -p /
ls --sort -r /
ls --sort -r -p /
ls --sort -r --quorum /dir
ls /dir/x
ls /_hid
ls /none
-o json ls --sort -r /dir
-o extended ls --sort /dir
get /dir
get /dir/x/y
rm /dir
rm --dir /dir
rmdir /dir
rmdir /deep/er/est
rmdir /none
rmdir /a
rm /a
rm /none
rm /stdin --with-value wrong
rm /stdin --with-index 1
rm /stdin --with-value 'from standard input'
rm -r /dir
rm /
rm -r /
-o json rm /made
get
set
set /x
mk /x
ls /a /b
watch
exec-watch /x
--no-sync ls --sort
--no-sync get /spaces
--no-sync set /nosync 1
--no-sync -o json get /nosync
--no-sync rm /nosync
--no-sync mk /spaces 1
--endpoints http://127.0.0.1:1 ls
--endpoints http://127.0.0.1:1 --no-sync get /a
--debug get /spaces
watch --after-index 5 /spaces
watch --recursive --after-index 4 /queue
-o json watch --recursive --after-index 4 /
exec-watch --after-index
"#;

/// Users, roles, and what they may. The last line leaves accounts switched on.
const ACCOUNTS: &str = r#"
user list
role list
auth enable
auth disable
role add reader
role add reader
role grant reader --path '/a/*' --read
role grant reader --path '/a/*' --read
role grant reader --path '/b' --readwrite
role grant reader
role grant none --path '/b' --read
role get reader
role get none
role revoke reader --path '/b' --write
role revoke reader --path '/c' --write
role get reader
user add root:secret
user add one:p
user add one:q
user add two <<< p
user get one
user get none
user grant one --roles reader,none
user grant one --roles reader
user grant none --roles reader
user revoke one --roles none
user passwd two <<< q
user list
set /a/x 1
set /b 1
set /c 1
auth enable
auth enable
user list
-u root:secret user list
-u root:secret role list
-u root:wrong role list
-u one:p role list
-u root:secret role revoke guest --path '/*' --readwrite
get /a/x
set /c 2
-u one:p get /a/x
-u one:wrong get /a/x
-u one:p set /a/x 2
-u one:p get /b
-u one:p set /b 2
-u one:p ls /
-u root:secret get /c
-u root:secret ls --sort -r /
-u one:p user add three:p
-u root:secret user remove two
-u root:secret user remove root
-u root:secret role remove root
-u root:secret role remove reader
-u one:p get /a/x
member list
cluster-health
auth disable
-u one:p auth disable
-u root:secret auth disable
set /c 3
-u root:secret auth enable
"#;

/// Members of a cluster of three; `{PEER}` is an address nobody listens at, `{NEW}` the id of the
/// member that was added, `{OLD}` that of the last one of the three, `{OWN}` its peer address.
const MEMBERS: &str = r#"
member list
cluster-health
--no-sync member list
member add new http://{PEER}
member list
member add again http://{PEER}
member update {NEW} http://127.0.0.1:1
member list
cluster-health
member update {OLD} http://{OWN}
member update 1234 http://127.0.0.1:2
member update {NEW} notaurl
member update zz http://127.0.0.1:2
member remove {NEW}
member list
member remove {NEW}
member remove 1234
member remove zz
member add
member add bad notaurl
set /after 1
member remove {OLD}
member list
get /after
cluster-health
"#;

/// A command that has answered nothing for so long hangs; etcdctl itself gives up after 5 s.
const LIMIT: Duration = Duration::from_secs(20);

/// Time for a watch to be there, and for a watcher to say what it has seen.
const WATCHING: Duration = Duration::from_millis(400);

struct Side {
    etcdctl: PathBuf,
    cluster: Cluster,
    /// Asked in the members' place.
    proxy: Option<Host>,
    /// etcdctl goes to the members themselves once it knows them, if it may.
    sync: bool,
    /// Ids of members: of the one that was added, of the last of the three.
    new: String,
    old: String,
    spare: u16,
}

impl Side {
    async fn start(binary: &Path, members: usize) -> Result<Side> {
        let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
        // etcd 3 refuses changes in the first five seconds of a leader; etcd 2 did not by default.
        let plan = Plan::new(binary, members)
            .flag("--enable-v2=true")
            .flag("--strict-reconfig-check=false");
        let mut side = Side {
            etcdctl,
            cluster: Cluster::start(&plan).await?,
            proxy: None,
            sync: true,
            new: "none".to_string(),
            old: "none".to_string(),
            spare: keelson_tests::proc::ports::free(1)?[0],
        };
        // Members make their addresses known by a write that may come after the first answer.
        let deadline = Instant::now() + LIMIT;
        loop {
            let (_, list, _) = side.call(&["member".to_string(), "list".to_string()], "")?;
            let known = list.matches("clientURLs=http").count();
            if known == members && list.contains("isLeader=true") {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{list}{}",
                side.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        side.old = side.id_of(&format!("name=m{members} "))?;
        Ok(side)
    }

    /// The same, with etcdctl kept from leaving the endpoints it is given.
    async fn without_sync(binary: &Path, members: usize) -> Result<Side> {
        let side = Side::start(binary, members).await?;
        Ok(Side {
            sync: false,
            ..side
        })
    }

    async fn behind_a_proxy(binary: &Path, members: usize) -> Result<Side> {
        let mut side = Side::without_sync(binary, members).await?;
        let mut proxy = Host::proxy(binary, &side.cluster, "proxy")?;
        proxy.start()?;
        proxy.serves().await?;
        side.proxy = Some(proxy);
        Ok(side)
    }

    fn endpoints(&self) -> Vec<String> {
        match &self.proxy {
            Some(proxy) => vec![proxy.client_url.clone()],
            None => self.cluster.endpoints(),
        }
    }

    fn logs(&self) -> String {
        let proxy = self.proxy.as_ref().map(Host::log_tail);
        self.cluster.log_tails() + &proxy.unwrap_or_default()
    }

    /// The id of the member whose line has these words.
    fn id_of(&self, words: &str) -> Result<String> {
        let (_, list, _) = self.call(&["member".to_string(), "list".to_string()], "")?;
        let line = list.lines().find(|line| line.contains(words));
        let id = line.and_then(|line| line.split([':', '[']).next());
        Ok(id.unwrap_or("none").to_string())
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.env("ETCDCTL_API", "2");
        if !arguments.iter().any(|argument| argument == "--endpoints") {
            let endpoints = self.endpoints().join(",");
            command.arg("--endpoints").arg(endpoints);
        }
        if !self.sync && !arguments.iter().any(|argument| argument == "--no-sync") {
            command.arg("--no-sync");
        }
        command.args(arguments);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs etcdctl: exit code, standard output, standard error.
    fn call(&self, arguments: &[String], input: &str) -> Result<(i32, String, String)> {
        let mut child = self.command(arguments).spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // It may have ended already, with nothing to read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        finish(child, LIMIT)
    }

    /// Runs a line of a script; the answer is the exit code and the masked output.
    fn line(&self, line: &str) -> Result<String> {
        let (arguments, input) = line.split_once(" <<< ").unwrap_or((line, ""));
        let arguments: Vec<String> = words(arguments)
            .iter()
            .map(|word| self.filled(word))
            .collect();
        let (code, out, err) = self.call(&arguments, input)?;
        Ok(self.masked(code, &out, &err))
    }

    fn filled(&self, word: &str) -> String {
        let own = self.cluster.members.last().map(|member| &member.peer_url);
        let own = own.map_or("", |url| url.trim_start_matches("http://"));
        word.replace("{PEER}", &format!("127.0.0.1:{}", self.spare))
            .replace("{NEW}", &self.new)
            .replace("{OLD}", &self.old)
            .replace("{OWN}", own)
    }

    fn masked(&self, code: i32, out: &str, err: &str) -> String {
        let mut lines: Vec<String> = out.lines().map(|line| self.mask(line)).collect();
        // Members are listed by id, and ids follow from ports.
        if out.contains("peerURLs=") || out.contains("is healthy") || out.contains("unreachable") {
            lines.sort();
        }
        let err: Vec<String> = err.lines().map(|line| self.mask(line)).collect();
        format!("exit code {code}\n{}\n{}", lines.join("\n"), err.join("\n"))
    }

    fn mask(&self, line: &str) -> String {
        let mut line = line.replace(&format!("127.0.0.1:{}", self.spare), "SPARE");
        let host = |url: &str| url.trim_start_matches("http://").to_string();
        for url in self.proxy.iter().map(|proxy| &proxy.client_url) {
            line = line.replace(&host(url), "CLIENT0");
        }
        for (number, member) in self.cluster.members.iter().enumerate() {
            line = line.replace(&host(&member.client_url), &format!("CLIENT{number}"));
            line = line.replace(&host(&member.peer_url), &format!("PEER{number}"));
        }
        // The order of the initial cluster is a map's; who leads is chance.
        if let Some(list) = line.strip_prefix("ETCD_INITIAL_CLUSTER=\"") {
            let mut members: Vec<&str> = list.trim_end_matches('"').split(',').collect();
            members.sort_unstable();
            line = format!("ETCD_INITIAL_CLUSTER={members:?}");
        }
        let line = line
            .replace("isLeader=true", "isLeader")
            .replace("isLeader=false", "isLeader");
        mask_expiration(&mask_ids(&line))
    }

    /// Starts a watch, writes, and says what the watch said; one that goes on is ended.
    fn watch(&self, watch: &str, writes: &[&str]) -> Result<String> {
        let child = self.command(&words(watch)).stdin(Stdio::null()).spawn()?;
        std::thread::sleep(WATCHING);
        for write in writes {
            self.line(write)?;
        }
        let (code, out, err) = finish(child, WATCHING)?;
        Ok(self.masked(code, &out, &err))
    }
}

/// Waits for the end, or ends it: then the code is -1.
fn finish(mut child: Child, limit: Duration) -> Result<(i32, String, String)> {
    let deadline = Instant::now() + limit;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code().unwrap_or(-2);
        }
        if deadline < Instant::now() {
            child.kill()?;
            child.wait()?;
            break -1;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let (mut out, mut err) = (String::new(), String::new());
    child
        .stdout
        .take()
        .context("no output")?
        .read_to_string(&mut out)?;
    child
        .stderr
        .take()
        .context("no errors")?
        .read_to_string(&mut err)?;
    Ok((code, out, err))
}

/// Words of a line; quotes hold them together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_string());
        } else {
            words.extend(part.split_whitespace().map(str::to_string));
        }
    }
    words
}

/// Ids of members are the only long hexadecimal words.
fn mask_ids(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
        let end = end.unwrap_or(rest.len()).max(1);
        let (word, after) = rest.split_at(end);
        let hex = (13..=16).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
        out += if hex { "ID" } else { word };
        rest = after;
    }
    out
}

fn mask_expiration(line: &str) -> String {
    let Some((before, after)) = line.split_once("\"expiration\":\"") else {
        return line.to_string();
    };
    let after = after.split_once('"').map_or("", |(_, after)| after);
    format!("{before}\"expiration\":MASKED{}", mask_expiration(after))
}

async fn both(members: usize) -> Result<Option<(Side, Side)>> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(None);
    };
    let ours = Side::start(&binary::ours()?, members).await?;
    let theirs = Side::start(&etcd, members).await?;
    Ok(Some((ours, theirs)))
}

/// Ours behind a proxy, etcd itself.
async fn both_through_a_proxy(members: usize) -> Result<Option<(Side, Side)>> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(None);
    };
    let ours = Side::behind_a_proxy(&binary::ours()?, members).await?;
    let theirs = Side::without_sync(&etcd, members).await?;
    Ok(Some((ours, theirs)))
}

/// Adds what differs.
fn differ(differences: &mut String, line: &str, our: &str, their: &str) {
    if our != their {
        *differences += &format!("$ etcdctl {line}\n--- ours\n{our}\n--- etcd's\n{their}\n\n");
    }
}

fn lines(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter(|line| !line.is_empty())
}

#[tokio::test]
async fn keys_look_the_same_to_etcdctl() -> Result<()> {
    keys(both(1).await?).await
}

#[tokio::test]
async fn keys_look_the_same_through_a_proxy() -> Result<()> {
    keys(both_through_a_proxy(1).await?).await
}

async fn keys(sides: Option<(Side, Side)>) -> Result<()> {
    let Some((ours, theirs)) = sides else {
        return Ok(());
    };
    let mut differences = String::new();
    for line in lines(KEYS) {
        let (our, their) = (ours.line(line)?, theirs.line(line)?);
        differ(&mut differences, line, &our, &their);
    }
    let watches: [(&str, &[&str]); 6] = [
        ("watch /w", &["set /w 1", "set /w 2"]),
        ("watch --recursive /v", &["set /v/a/b 1"]),
        ("-o json watch -r /", &["set /_hidden 1", "set /u 1"]),
        (
            "watch --forever /w",
            &["set /w 3", "update /w 4", "rm /w", "set /x 1"],
        ),
        ("exec-watch --recursive /w -- env", &["set /w 5"]),
        (
            "exec-watch --recursive /t -- sh -c 'echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY \
          $ETCD_WATCH_VALUE $ETCD_WATCH_MODIFIED_INDEX'",
            &["set /t/1 x", "rm /t/1"],
        ),
    ];
    for (watch, writes) in watches {
        let only = |text: String| {
            let kept = text.lines().filter(|line| {
                !watch.ends_with("env")
                    || line.starts_with("ETCD_WATCH")
                    || line.starts_with("exit")
            });
            let mut kept: Vec<&str> = kept.collect();
            if watch.ends_with("env") {
                kept.sort_unstable();
            }
            kept.join("\n")
        };
        let (our, their) = (ours.watch(watch, writes)?, theirs.watch(watch, writes)?);
        let seen = their.lines().skip(1).any(|line| !line.is_empty());
        ensure!(seen, "{watch} saw nothing of etcd: {their}");
        differ(&mut differences, watch, &only(our), &only(their));
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}

#[tokio::test]
async fn accounts_look_the_same_to_etcdctl() -> Result<()> {
    accounts(both(1).await?).await
}

#[tokio::test]
async fn accounts_look_the_same_through_a_proxy() -> Result<()> {
    accounts(both_through_a_proxy(1).await?).await
}

async fn accounts(sides: Option<(Side, Side)>) -> Result<()> {
    let Some((ours, theirs)) = sides else {
        return Ok(());
    };
    let mut differences = String::new();
    for line in lines(ACCOUNTS) {
        let (our, their) = (ours.line(line)?, theirs.line(line)?);
        differ(&mut differences, line, &our, &their);
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}

#[tokio::test]
async fn members_look_the_same_to_etcdctl() -> Result<()> {
    members(both(3).await?).await
}

#[tokio::test]
async fn members_look_the_same_through_a_proxy() -> Result<()> {
    members(both_through_a_proxy(3).await?).await
}

async fn members(sides: Option<(Side, Side)>) -> Result<()> {
    let Some((mut ours, mut theirs)) = sides else {
        return Ok(());
    };
    let mut differences = String::new();
    for line in lines(MEMBERS) {
        if line.starts_with("member add again") {
            // Within one second the id would be the same, and the error another.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        let (our, their) = (ours.line(line)?, theirs.line(line)?);
        differ(&mut differences, line, &our, &their);
        for side in [&mut ours, &mut theirs] {
            if line.starts_with("member add new") {
                side.new = side.id_of("unstarted")?;
            }
            if line == "member remove {OLD}" {
                // It stops by itself a second later, and cluster-health must not see it alive.
                let last = side.cluster.members.len() - 1;
                side.cluster.kill(last);
                // If it led, the others elect first.
                side.cluster.wait_ready(LIMIT).await?;
            }
        }
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}
