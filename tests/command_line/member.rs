//! A member's process as its supervisor sees it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{Finished, Running, eventually, free_port, keelson, with_clean_environment};

pub(crate) fn member(data: &Path, client: u16, peer: u16) -> Command {
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let mut command = keelson();
    command
        .args(["--name", "m1", "--data-dir"])
        .arg(data)
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("m1={peer}")]);
    command
}

/// The lines that scripts wait for, in both formats; then a clean stop, reported as the signal.
#[test]
fn a_member_says_when_it_is_ready_and_dies_of_the_signal() {
    for (logger, published, capabilities) in [
        (
            "zap",
            "published local member to cluster",
            "enabled capabilities for version",
        ),
        (
            "capnslog",
            "published {Name:m1 ClientURLs:",
            "enabled capabilities for version 3.5",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = member(&dir.path().join("d"), free_port(), free_port());
        let mut member = Running::log_of(command.args(["--logger", logger]));
        let ready = member
            .wait_for_all(&[
                "ready to serve client requests",
                published,
                capabilities,
                " became leader at term ",
                " elected leader ",
                "set the initial cluster version to 3.5",
            ])
            .remove(0);
        if logger == "zap" {
            let value: Value = serde_json::from_str(&ready).unwrap();
            assert_eq!(value["level"], "info");
            assert_eq!(value["msg"], "ready to serve client requests");
            assert!(value["ts"].is_string());
        }
        member.signal("TERM");
        assert_eq!(
            member.child.wait().unwrap().signal(),
            Some(15),
            "{:#?}",
            member.seen
        );
    }
}

/// One request with `Connection: close`; returns the whole answer, or an empty text without one.
fn ask(port: u16, method: &str, path: &str) -> String {
    let mut answer = String::new();
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else {
        return answer;
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let _ = socket.write_all(head.as_bytes());
    let _ = socket.read_to_string(&mut answer);
    answer
}

/// Idle connections to both of its ports, more than it has descriptors for; then more writes than a
/// segment of the log holds.
#[test]
fn a_member_whose_descriptors_are_wanted_by_all_goes_on_writing() {
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let limited = member(&dir.path().join("d"), client, peer);
    let mut shell = with_clean_environment("/bin/sh");
    shell
        .args(["-c", "ulimit -n 220 && exec \"$0\" \"$@\""])
        .arg(limited.get_program())
        .args(limited.get_args());
    let mut member = Running::log_of(&mut shell);
    member.wait_for("ready to serve client requests");
    let mut writer = TcpStream::connect(("127.0.0.1", client)).unwrap();
    put_500_kilobytes(&mut writer);
    let idle: Vec<TcpStream> = (0..300)
        .map(|number| [client, peer][number % 2])
        .filter_map(|port| TcpStream::connect(("127.0.0.1", port)).ok())
        .collect();
    for _ in 0..45 {
        put_500_kilobytes(&mut writer);
    }
    assert_eq!(idle.len(), 300);
    assert_eq!(member.child.try_wait().unwrap(), None);
}

fn put_500_kilobytes(socket: &mut TcpStream) {
    let body = format!("value={}", "x".repeat(500_000));
    let head = format!(
        "PUT /v2/keys/big?noValueOnSuccess=true HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"}\n") {
        let read = socket.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the member hung up");
        answer.extend_from_slice(&buffer[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 20"));
}

/// etcd 3.4.23 does the same; a unit with `Restart=on-failure` must not start it again and again.
#[test]
fn a_removed_member_exits_0_and_again_at_each_start() {
    let dir = tempfile::tempdir().unwrap();
    let (clients, peers) = ([free_port(), free_port()], [free_port(), free_port()]);
    let cluster = format!(
        "m1=http://127.0.0.1:{},m2=http://127.0.0.1:{}",
        peers[0], peers[1]
    );
    let start = |at: usize| {
        let name = ["m1", "m2"][at];
        let mut command = member(&dir.path().join(name), clients[at], peers[at]);
        command.args(["--name", name, "--initial-cluster", &cluster]);
        Running::log_of(&mut command)
    };
    let (mut first, mut second) = (start(0), start(1));
    first.wait_for("ready to serve client requests");
    second.wait_for("ready to serve client requests");
    let list = ask(clients[0], "GET", "/v2/members");
    let list: Value = serde_json::from_str(list.split_once("\r\n\r\n").unwrap().1).unwrap();
    let members = list["members"].as_array().unwrap();
    let removed = members.iter().find(|one| one["name"] == "m2").unwrap();
    let path = format!("/v2/members/{}", removed["id"].as_str().unwrap());
    // The quorum without it must have been healthy for a while.
    eventually("the member is removed", || {
        let answer = ask(clients[0], "DELETE", &path);
        ["HTTP/1.1 204", "HTTP/1.1 410"]
            .iter()
            .any(|good| answer.starts_with(good))
    });
    let end_of = |mut member: Running| {
        member.wait_for("the member has been permanently removed from the cluster");
        member.wait_for("data-dir used by this member must be removed");
        assert_eq!(member.child.wait().unwrap().code(), Some(0));
    };
    end_of(second);
    end_of(start(1));
}

/// etcd, a Go program, survives them.
#[test]
fn signals_of_no_meaning_do_not_end_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_port();
    let mut command = member(&dir.path().join("d"), client, free_port());
    let mut member = Running::log_of(&mut command);
    member.wait_for("ready to serve client requests");
    for signal in [
        "USR1", "USR2", "ALRM", "PIPE", "VTALRM", "PROF", "XCPU", "XFSZ", "PWR", "IO",
    ] {
        member.signal(signal);
        // An answer comes after the signal was delivered: a dead process sends none.
        let answer = ask(client, "GET", "/version");
        assert!(answer.starts_with("HTTP/1.1 200"), "SIG{signal}: {answer}");
        assert_eq!(member.child.try_wait().unwrap(), None, "SIG{signal}");
    }
    member.signal("HUP");
    assert_eq!(member.child.wait().unwrap().signal(), Some(1));
}

#[test]
fn a_taken_port_names_url_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (client, peer, flag) in [
        (port, free_port(), "--listen-client-urls"),
        (free_port(), port, "--listen-peer-urls"),
    ] {
        let output = member(&dir.path().join(flag), client, peer)
            .output()
            .unwrap();
        let finished = Finished::of(output);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        for part in [
            "address already in use",
            &format!("http://127.0.0.1:{port}"),
            flag,
        ] {
            assert!(finished.stderr.contains(part), "{finished:?}");
        }
    }
}

#[test]
fn an_initial_cluster_that_does_not_fit_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    for (cluster, text) in [
        ("m2=http://127.0.0.1:1", "find local name"),
        (
            "m1=http://127.0.0.1:1",
            "missing from --initial-advertise-peer-urls",
        ),
        (
            "m1=http://127.0.0.1:1,m2=http://127.0.0.1:1",
            "has duplicate url",
        ),
    ] {
        let mut command = member(&data, free_port(), free_port());
        let output = command
            .args(["--initial-cluster", cluster])
            .output()
            .unwrap();
        let finished = Finished::of(output);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(text), "{finished:?}");
    }
    assert!(!data.join("member/wal").exists());
}

/// Its directory would be removed while it runs.
#[test]
fn a_proxy_that_runs_is_not_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("p");
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut command = keelson();
    command.args(["--proxy=on", "--listen-client-urls", &url, "--data-dir"]);
    command
        .arg(&data)
        .args(["--initial-cluster", "m1=http://127.0.0.1:1"]);
    let mut proxy = Running::log_of(&mut command);
    proxy.wait_for("proxy: listening for client requests");
    let mut command = keelson();
    command.arg("promote").arg("--data-dir").arg(&data);
    command.args([
        "--name=p",
        "--initial-advertise-peer-urls=http://127.0.0.1:2",
    ]);
    let refused = Finished::of(command.output().unwrap());
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("in use by a proxy that runs: stop it first"),
        "{refused:?}"
    );
    assert!(data.join("proxy").is_dir());
}

/// CoreOS's unit is `Type=notify`.
#[test]
fn systemd_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = member(&dir.path().join("d"), free_port(), free_port());
    let _member = Running::log_of(command.env("NOTIFY_SOCKET", &path));
    let mut buffer = [0; 64];
    let mut told = || {
        socket
            .recv(&mut buffer)
            .is_ok_and(|length| &buffer[..length] == b"READY=1")
    };
    eventually("READY=1", &mut told);
}
