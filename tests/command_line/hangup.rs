//! SIGHUP: the files that are read again.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::member::member;
use crate::process::{Running, eventually, free_port, keelson};

/// Without a log file the signal ends a process that has no files of TLS.
#[test]
fn a_member_opens_its_log_file_anew_at_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let [path, old] = ["m1.log", "m1.log.1"].map(|name| dir.path().join(name));
    let mut command = member(&dir.path().join("d"), free_port(), free_port());
    let outputs = format!("stderr,{}", path.display());
    command.args(["--log-outputs", &outputs, "--enable-log-rotation"]);
    let mut member = Running::log_of(&mut command);
    member.wait_for("ready to serve client requests");
    std::fs::rename(&path, &old).unwrap();
    member.signal("HUP");
    member.wait_for("the log files are open anew");
    let read = |path| std::fs::read_to_string(path).unwrap();
    assert!(read(&old).contains("ready to serve client requests"));
    eventually("a line in the new file", || {
        read(&path).contains("the log files are open anew")
    });
    assert_eq!(member.child.try_wait().unwrap(), None);
}

/// A member with a generated certificate, and the list of founders.
fn with_tls(dir: &Path, others: &str) -> Command {
    let [client, peer] = [free_port(), free_port()];
    let [client, peer] = [
        format!("https://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    ];
    let mut command = keelson();
    command.arg("--data-dir").arg(dir.join("d"));
    for (flag, value) in [
        ("name", "m1"),
        ("auto-tls", "true"),
        ("listen-client-urls", &client),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("initial-cluster", &format!("m1={peer}{others}")),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    command
}

/// Without files of TLS the signal ends a process, as it ends etcd.
#[test]
fn a_member_with_tls_reads_its_files_again_at_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Running::log_of(&mut with_tls(dir.path(), ""));
    member.wait_for("ready to serve client requests");
    for _ in 0..2 {
        member.signal("HUP");
        member.wait_for("reading the TLS files, and the keys of tokens, again");
        member.wait_for("using the new TLS files");
    }
    assert_eq!(member.child.try_wait().unwrap(), None);
}

/// It ended the process.
#[test]
fn a_member_that_is_coming_up_reads_its_files_once_it_is_up() {
    let dir = tempfile::tempdir().unwrap();
    // A founder that does not answer holds the member up.
    let founder = TcpListener::bind("127.0.0.1:0").unwrap();
    founder.set_nonblocking(true).unwrap();
    let other = format!(",m2=http://{}", founder.local_addr().unwrap());
    let mut member = Running::log_of(&mut with_tls(dir.path(), &other));
    let mut held = None;
    eventually("a query of the other founder", || {
        held = founder.accept().ok();
        held.is_some()
    });
    member.signal("HUP");
    drop((held, founder));
    member.wait_for("reading the TLS files, and the keys of tokens, again");
    assert_eq!(member.child.try_wait().unwrap(), None);
}
