//! The playground: it starts members, tells of them, and leaves none behind.

use std::net::TcpListener;
use std::path::PathBuf;

use crate::process::{Finished, Running, eventually, free_ports, keelson};

/// A base port whose members' ports are all free.
fn base_port(members: u16) -> u16 {
    let distances: Vec<u16> = (0..members)
        .flat_map(|number| [number * 10, number * 10 + 1])
        .collect();
    free_ports(&distances)
}

fn start(members: u16, base: u16) -> Running {
    let (members, base) = (members.to_string(), base.to_string());
    let mut command = keelson();
    command.args(["playground", "--members", &members, "--base-port", &base]);
    Running::output_of(&mut command)
}

fn data_directory(playground: &mut Running) -> PathBuf {
    let line = playground.wait_for("Data and logs: ");
    let path = line.strip_prefix("Data and logs: ").unwrap();
    PathBuf::from(path.strip_suffix(" (removed at the end)").unwrap())
}

fn nobody_listens(members: u16, base: u16) -> bool {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..members).all(|number| free(base + number * 10))
}

#[test]
fn it_shows_what_happens_to_members_and_cleans_up() {
    let base = base_port(3);
    let mut playground = start(3, base);
    let data = data_directory(&mut playground);
    let kill = playground.wait_for("kill -9 ");
    playground.wait_for("Ctrl-C ends");
    let leader = kill.split_whitespace().nth(2).unwrap();
    std::process::Command::new("kill")
        .args(["-9", leader])
        .status()
        .unwrap();
    playground.wait_for_all(&["down, was killed by signal 9", "leads, term"]);
    playground.signal("INT");
    playground.wait_for("Ended.");
    assert_eq!(playground.child.wait().unwrap().code(), Some(0));
    assert!(nobody_listens(3, base));
    assert!(!data.exists());
}

#[test]
fn its_members_do_not_outlive_it() {
    let base = base_port(1);
    let mut playground = start(1, base);
    let data = data_directory(&mut playground);
    playground.wait_for("Ctrl-C ends");
    assert!(!nobody_listens(1, base));
    playground.signal("KILL");
    playground.child.wait().unwrap();
    eventually("the member ends", || nobody_listens(1, base));
    std::fs::remove_dir_all(data).unwrap();
}

#[test]
fn a_taken_port_is_said_before_anything_is_started() {
    let base = base_port(2);
    let _taken = TcpListener::bind(("127.0.0.1", base + 11)).unwrap();
    let base_text = base.to_string();
    let arguments = ["playground", "--members", "2", "--base-port", &base_text];
    let finished = Finished::of(keelson().args(arguments).output().unwrap());
    assert_eq!(finished.code, Some(1));
    let cause = format!("port {} (peers of m2)", base + 11);
    assert!(finished.stderr.contains(&cause), "{finished:?}");
    assert!(finished.stderr.contains("--base-port"), "{finished:?}");
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_member_that_cannot_start_shows_the_end_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m1"), "no directory").unwrap();
    let base = base_port(1).to_string();
    let mut command = keelson();
    command.args([
        "playground",
        "--members",
        "1",
        "--base-port",
        &base,
        "--data-dir",
    ]);
    let finished = Finished::of(command.arg(dir.path()).output().unwrap());
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("m1 ended with exit status 1"),
        "{finished:?}"
    );
    assert!(finished.stderr.contains(" E | "), "{finished:?}");
}
