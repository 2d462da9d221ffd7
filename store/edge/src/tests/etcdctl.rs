//! etcd's own command-line client. Without an installed etcdctl the test prints a line and is
//! skipped.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Port, within};

/// Runs etcdctl; `None` if it is not installed.
async fn run(port: &Port, input: &str, args: &[&str]) -> Option<String> {
    let spawned = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", port.url()))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("no etcdctl here: skipped");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = within(child.wait_with_output()).await.unwrap();
    Some(String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_is_at_home() {
    let port = Port::start().await;
    let txn = "mod(\"a\") > \"0\"\n\nput b 2\nget a\n\nget c\n\n";
    let cases: &[(&str, &[&str], &str)] = &[
        ("", &["put", "a", "1"], "OK\n"),
        ("", &["get", "a"], "a\n1\n"),
        (
            "",
            &["get", "--prefix", "", "--keys-only", "--limit=1"],
            "a\n\n",
        ),
        (txn, &["txn"], "SUCCESS\n\nOK\n\na\n1\n"),
        ("", &["del", "--prefix", "a"], "1\n"),
        (
            "",
            &["member", "list"],
            "cafe, started, m1, http://127.0.0.1:2380, ",
        ),
        (
            "",
            &["endpoint", "status"],
            "cafe, 3.7.1, 20 kB, true, false, 2, 11, 11, ",
        ),
        (
            "",
            &["endpoint", "health"],
            "is healthy: successfully committed proposal",
        ),
        ("", &["lease", "list"], "found 0 leases"),
        ("", &["lease", "timetolive", "7"], "already expired"),
        ("", &["lease", "revoke", "7"], "requested lease not found"),
        ("", &["lease", "keep-alive", "7"], "expired or revoked"),
        // Clients take the error as the end of their lock.
        (
            "",
            &["lease", "keep-alive", "--once", "7"],
            "requested lease not found",
        ),
        ("", &["lock", "l", "echo", "held"], "held\n"),
        ("", &["compaction", "2"], "compacted revision 2\n"),
        (
            "",
            &["compaction", "2"],
            "required revision has been compacted",
        ),
        ("", &["defrag"], "Finished defragmenting etcd member"),
        ("", &["move-leader", "1"], "bad leader transferee"),
    ];
    for (input, args, expected) in cases {
        let Some(output) = run(&port, input, args).await else {
            return;
        };
        assert!(output.contains(expected), "{args:?}: {output}");
    }
}
