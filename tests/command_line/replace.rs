//! `keelson replace` where it removes nothing, and the command line that continues it.

use std::path::Path;
use std::process::Command;

use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
};

use crate::member::member;
use crate::process::{Finished, Running, free_port, keelson};

#[test]
fn a_replacement_that_cannot_begin_names_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_port();
    let mut member = Running::log_of(&mut member(&dir.path().join("d"), client, free_port()));
    member.wait_for("ready to serve client requests");
    for (old, code, text) in [
        (
            "m1",
            0,
            "is a member and answers: there is nothing to replace",
        ),
        (
            "m9",
            1,
            "give the peer URLs of its successor with --peer-urls",
        ),
    ] {
        let mut command = keelson();
        command.args(["replace", old, "--endpoints"]);
        let finished = Finished::of(command.arg(format!("127.0.0.1:{client}")).output().unwrap());
        assert_eq!(finished.code, Some(code), "{finished:?}");
        let output = format!("{}{}", finished.stdout, finished.stderr);
        assert!(output.contains(text), "{finished:?}");
    }
}

/// A member of three; clients are sent to `advertised`.
fn one_of_three(at: usize, data: &Path, peers: &[u16; 3], client: u16, advertised: u16) -> Command {
    let peer = |at: usize| format!("http://127.0.0.1:{}", peers[at]);
    let cluster: Vec<_> = (0..3).map(|at| format!("m{at}={}", peer(at))).collect();
    let mut command = keelson();
    command.arg("--data-dir").arg(data.join(at.to_string()));
    for (flag, value) in [
        ("name", format!("m{at}")),
        ("initial-cluster", cluster.join(",")),
        ("listen-peer-urls", peer(at)),
        ("initial-advertise-peer-urls", peer(at)),
        ("listen-client-urls", format!("http://127.0.0.1:{client}")),
        (
            "advertise-client-urls",
            format!("http://127.0.0.1:{advertised}"),
        ),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    command
}

/// A member that runs was removed for good where its client URL did not lead to it.
#[test]
fn a_member_that_may_run_is_replaced_by_force_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [first, peers] = [(); 2].map(|()| [(); 3].map(|()| free_port()));
    // m1 advertises m0's port, as a member with http://localhost:2379; nothing listens on m2's.
    let advertised = [first[0], first[0], free_port()];
    let mut members: Vec<_> = (0..3)
        .map(|at| {
            let mut command = one_of_three(at, dir.path(), &peers, first[at], advertised[at]);
            Running::log_of(&mut command)
        })
        .collect();
    for member in &mut members {
        member.wait_for_all(&["ready to serve client requests", "published local member"]);
    }
    let endpoint = format!("127.0.0.1:{}", first[0]);
    let replace = |words: &[&str]| {
        let mut command = keelson();
        command.arg("replace").args(words);
        let limits = ["--wait", "1s", "--endpoints", &endpoint];
        Finished::of(command.args(limits).output().unwrap())
    };
    for (name, text) in [
        ("m1", "m1 may still run: its client URL "),
        ("m2", "but the leader counts no voter as silent"),
    ] {
        let refused = replace(&[name]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert_eq!(refused.stdout, "", "{refused:?}");
        assert!(refused.stderr.contains(text), "{refused:?}");
        assert!(refused.stderr.contains("with --force"), "{refused:?}");
    }
    let forced = replace(&["m2", "--name", "n2", "--force"]);
    assert_eq!(forced.code, Some(1), "it is not started: {forced:?}");
    assert!(forced.stdout.starts_with("Removed m2 ("), "{forced:?}");
    let url = format!("http://127.0.0.1:{}", peers[2]);
    let again =
        format!("replace m2 --name n2 --endpoints {endpoint} --peer-urls {url} --wait 1s\n");
    assert!(forced.stderr.ends_with(&again), "{forced:?}");
    // The member has the peer URL, not the name.
    let taken = replace(&[
        "n1",
        "--peer-urls",
        &format!("http://127.0.0.1:{}", peers[1]),
    ]);
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.stderr.contains("the voter m1 ("), "{taken:?}");
}

#[tokio::main(flavor = "current_thread")]
async fn enable_auth(client: u16) {
    let mut auth = AuthClient::connect(format!("http://127.0.0.1:{client}"))
        .await
        .unwrap();
    for name in ["root", "alice"] {
        let user = AuthUserAddRequest {
            name: name.to_owned(),
            password: "pw".to_owned(),
            ..AuthUserAddRequest::default()
        };
        auth.user_add(user).await.unwrap();
    }
    let root = || "root".to_owned();
    let grant = AuthUserGrantRoleRequest {
        user: root(),
        role: root(),
    };
    auth.user_grant_role(grant).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
}

/// Its error was that of the list of members, without a remedy; there was no flag for a user.
#[test]
fn a_replacement_in_a_cluster_with_auth_needs_a_user() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_port();
    let mut member = Running::log_of(&mut member(&dir.path().join("d"), client, free_port()));
    member.wait_for("ready to serve client requests");
    enable_auth(client);
    let replace = |words: &[&str]| {
        let mut command = keelson();
        command.env_remove("ETCDCTL_USER").args(["replace", "m1"]);
        let endpoint = format!("127.0.0.1:{client}");
        Finished::of(
            command
                .args(words)
                .args(["--endpoints", &endpoint])
                .output()
                .unwrap(),
        )
    };
    for (words, text) in [
        (&[][..], "user name is empty; auth is enabled"),
        (&["--user", "root:x"], "authentication failed"),
        (&["--user", "root"], "cannot read the password of root"),
        (&["--password", "pw"], "--password is given without --user"),
    ] {
        let refused = replace(words);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let has = |text| refused.stderr.contains(text);
        assert!(
            has(text) && has("--user") | has("--password"),
            "{refused:?}"
        );
    }
    for words in [
        &["--user", "root:pw"][..],
        &["--user", "alice", "--password", "pw"],
    ] {
        let finished = replace(words);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(
            finished.stdout.contains("m1 is a member and answers"),
            "{finished:?}"
        );
    }
}
