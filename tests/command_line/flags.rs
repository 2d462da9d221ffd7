//! Command lines and environments with which the process ends at once.

use std::os::unix::fs::symlink;

use crate::process::{Finished, keelson, run, with_clean_environment};

#[test]
fn the_version_begins_with_the_name_it_was_called_by() {
    let ours = run("--version");
    assert_eq!(ours.code, Some(0));
    assert!(ours.stdout.starts_with("keelson "), "{}", ours.stdout);
    assert!(
        ours.stdout
            .lines()
            .any(|line| line.starts_with("etcd Version: 3."))
    );

    let dir = tempfile::tempdir().unwrap();
    let etcd = dir.path().join("etcd");
    symlink(env!("CARGO_BIN_EXE_keelson"), &etcd).unwrap();
    let output = with_clean_environment(&etcd)
        .arg("-version")
        .output()
        .unwrap();
    let theirs = Finished::of(output);
    let version = theirs
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("etcd Version: ")
        .unwrap();
    assert!(
        version.split('.').all(|part| part.parse::<u32>().is_ok()),
        "{version}"
    );
}

#[test]
fn help_goes_to_standard_output() {
    let help = run("--help");
    assert_eq!(help.code, Some(0));
    for part in [
        "Commands:",
        "playground",
        "discovery",
        "promote",
        "--help all",
    ] {
        assert!(help.stdout.contains(part), "{part}");
    }
    for line in ["help", "help no-such-command", "version", "help gateway"] {
        assert_eq!(
            run(line).code,
            Some(i32::from(line.contains("no-"))),
            "{line}"
        );
    }
    let help = run("--help all");
    for part in [
        "Usage:",
        "Member:",
        "Clustering:",
        "Security:",
        "Logging:",
        "--initial-cluster ",
        "Without effect, or not supported:",
    ] {
        assert!(help.stdout.contains(part), "{part}");
    }
}

/// Exit codes and texts are etcd 3.4.23's; each text must be on standard error.
#[test]
fn what_cannot_work_says_so_and_exits() {
    let urls = "--advertise-client-urls http://127.0.0.1:1 --listen-client-urls";
    for (line, code, texts) in [
        (
            "--nosuch",
            2,
            vec![
                "flag provided but not defined: -nosuch",
                "See 'keelson --help'.",
            ],
        ),
        (
            "--data-dri x",
            2,
            vec![
                "flag provided but not defined: -data-dri",
                "did you mean --data-dir?",
            ],
        ),
        (
            "playgroud",
            1,
            vec![
                "'playgroud' is not a valid flag",
                "did you mean the command playground?",
            ],
        ),
        (
            "--heartbeat-interval 1s",
            2,
            vec![
                "for flag -heartbeat-interval: parse error",
                "milliseconds, a whole number, e.g. 100",
            ],
        ),
        (
            "--listen-client-urls 127.0.0.1:34300",
            2,
            vec!["write http://127.0.0.1:34300"],
        ),
        ("--name", 2, vec!["flag needs an argument: -name"]),
        (
            "--listen-client-urls foo",
            2,
            vec!["URL scheme must be http, https, unix, or unixs"],
        ),
        (
            "--pre-vote false",
            1,
            vec!["'false' is not a valid flag", "--pre-vote=false"],
        ),
        (
            "--heartbeat-interval 300",
            1,
            vec!["--election-timeout[1000ms] should be at least"],
        ),
        (
            "--initial-cluster-state maybe",
            2,
            vec!["invalid value \\\"maybe\\\"", "new, existing"],
        ),
        (
            "--initial-cluster nourl",
            1,
            vec!["error setting up initial cluster", "name=http://"],
        ),
        (
            &format!("{urls} http://a.b:1"),
            1,
            vec!["expected IP in URL for binding"],
        ),
        (
            "--listen-client-urls http://127.0.0.1:1",
            1,
            vec!["--advertise-client-urls is required"],
        ),
        (
            "--peer-cert-file x",
            1,
            vec!["--peer-cert-file and --peer-key-file must be given together"],
        ),
        (
            "--discovery-cert x --discovery-token t --discovery-endpoints 127.0.0.1:1",
            1,
            vec!["--discovery-cert and --discovery-key must be given together"],
        ),
        (
            "--discovery http://d/t --initial-cluster default=http://localhost:2380",
            1,
            vec!["multiple discovery or bootstrap flags are set"],
        ),
        (
            "--discovery nourl",
            1,
            vec!["discovery: invalid URL", "http://host:8087/<token>"],
        ),
        ("--logger foo", 1, vec!["unknown logger option"]),
        (
            "--log-outputs /no/such/dir/log",
            1,
            vec!["/no/such/dir/log", "check --log-outputs"],
        ),
        (
            "gateway start --listen-addr 127.0.0.1:0 --trusted-ca-file x",
            1,
            vec!["--trusted-ca-file is not supported"],
        ),
        (
            "grpc-proxy start --listen-addr 127.0.0.1:0 --namespace x",
            1,
            vec!["--namespace is not supported"],
        ),
        (
            "promote --data-dir no/such --name x --initial-advertise-peer-urls http://localhost:1",
            1,
            vec!["is not a proxy's data directory"],
        ),
    ] {
        let finished = run(line);
        assert_eq!(finished.code, Some(code), "{line}: {finished:?}");
        for text in texts {
            let text = text.replace("\\\"", "\"");
            assert!(finished.stderr.contains(&text), "{line}: {finished:?}");
        }
    }
}

/// As in etcd, the file hides the flag and the variable of one name, which would be a conflict.
#[test]
fn a_configuration_file_is_read_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.yml");
    let text = "nosuch: 1\nname: m1\nheartbeat-interval: 300\nlogger: capnslog\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let mut command = keelson();
    command.env("ETCD_NAME", "b").args(["--name", "c"]);
    let output = command.args(["--config-file", path]).output().unwrap();
    let finished = Finished::of(output);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for text in [
        &format!("Loading server configuration from \"{path}\". Other configuration command line "),
        "ignored because of the configuration file: --name, ETCD_NAME",
        "line 1: nosuch: unknown key, ignored",
        "error verifying flags, --election-timeout[1000ms] should be at least",
    ] {
        assert!(finished.stderr.contains(text), "{text}: {finished:?}");
    }
    let output = keelson().env("KEELSON_CONFIG_FILE", "no.yml").output();
    let finished = Finished::of(output.unwrap());
    assert_eq!(finished.code, Some(1));
    let text = "open no.yml: no such file or directory";
    assert!(finished.stderr.contains(text), "{finished:?}");
}

#[test]
fn the_environment_is_read_and_checked() {
    for (variable, value, line, text) in [
        (
            "ETCD_NAME",
            "b",
            "--name a",
            "conflicting environment variable",
        ),
        (
            "ETCD_HEARTBEAT_INTERVAL",
            "abc",
            "",
            "for ETCD_HEARTBEAT_INTERVAL: parse error; write milliseconds",
        ),
        (
            "ETCD_ELECTION_TIMEOUT",
            "60000",
            "",
            "--election-timeout[60000ms] is too long",
        ),
        (
            "ETCD_NOSUCH",
            "1",
            "--heartbeat-interval=0",
            "unrecognized environment variable",
        ),
    ] {
        let output = keelson()
            .env(variable, value)
            .args(line.split_whitespace())
            .output();
        let finished = Finished::of(output.unwrap());
        assert_eq!(finished.code, Some(1), "{variable}: {finished:?}");
        assert!(finished.stderr.contains(text), "{variable}: {finished:?}");
    }
}
