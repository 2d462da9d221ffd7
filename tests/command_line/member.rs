//! A member's life as its supervisor sees it.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{Finished, Running, eventually, free_port, keelson};

fn member(data: &Path, client: u16, peer: u16) -> Command {
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

/// The lines that scripts wait for, in both formats; then a clean stop, seen as the signal.
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
        member.wait_for(published);
        member.wait_for(capabilities);
        let ready = member.wait_for("ready to serve client requests");
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
