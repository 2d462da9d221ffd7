//! `keelson doctor`: its exit codes, and its report as text and as JSON.

use crate::member::member;
use crate::process::{Finished, Running, free_port, keelson};

fn doctor(client: u16, further: &[&str]) -> Finished {
    let mut command = keelson();
    command.args(["doctor", "--endpoints"]);
    command.arg(format!("127.0.0.1:{client}")).args(further);
    Finished::of(command.output().unwrap())
}

#[test]
fn the_exit_code_is_that_of_the_worst_finding() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_port();
    let mut member = Running::log_of(&mut member(&dir.path().join("d"), client, free_port()));
    member.wait_for("ready to serve client requests");

    // A cluster of one has no spare. On a loaded machine its disk may be slow as well.
    let found = doctor(client, &[]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let lines: Vec<_> = found.stdout.lines().collect();
    let [fault, remedy, .., verdict] = lines[..] else {
        panic!("{found:?}");
    };
    assert!(fault.starts_with("WARNING  cluster: one voter"), "{fault}");
    assert!(remedy.contains("-> add members"), "{remedy}");
    let (worst, members) = verdict.split_once(" to mend; ").unwrap();
    assert!(worst.starts_with("warning: "), "{verdict}");
    assert_eq!(members, "1 of 1 members answer, leader m1");

    let found = doctor(client, &["-w", "json"]);
    let report: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found.code, Some(1), "{found:?}");
    assert_eq!(report["verdict"], "warning");
    assert_eq!(report["findings"][0]["check"], "redundancy");
}

#[test]
fn without_a_member_the_code_is_critical_and_without_sense_unknown() {
    let found = doctor(free_port(), &[]);
    assert_eq!(found.code, Some(2), "{found:?}");
    assert!(
        found.stdout.contains("does not list the members: "),
        "{found:?}"
    );
    let found = doctor(free_port(), &["--unknown"]);
    assert_eq!(found.code, Some(3), "{found:?}");
    let found = doctor(free_port(), &["--cacert", "/nonexistent"]);
    assert_eq!(found.code, Some(3), "{found:?}");
    assert!(found.stderr.contains("/nonexistent"), "{found:?}");
}
