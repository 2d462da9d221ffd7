//! `keelson util defrag`: what it prints, and its exit codes.

use crate::member::member;
use crate::process::{Finished, Running, free_port, keelson};

#[test]
fn a_stopped_member_is_defragmented_and_a_running_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let defrag = || {
        let mut command = keelson();
        command.args(["util", "defrag", "--data-dir"]).arg(&data);
        Finished::of(command.output().unwrap())
    };
    let nothing = defrag();
    assert_eq!(nothing.code, Some(1), "{nothing:?}");

    let mut running = Running::log_of(&mut member(&data, free_port(), free_port()));
    running.wait_for("ready to serve client requests");
    let in_use = defrag();
    assert_eq!(in_use.code, Some(1), "{in_use:?}");
    assert!(in_use.stderr.contains("etcdctl defrag"), "{in_use:?}");

    // It is killed.
    drop(running);
    let done = defrag();
    assert_eq!(done.code, Some(0), "{done:?}");
    let begin = format!("Finished defragmenting {}: ", data.display());
    assert!(done.stdout.starts_with(&begin), "{done:?}");
}
