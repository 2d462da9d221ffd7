//! The playground: hosts come up through one URL, it shows their states, and leaves no process
//! behind.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Finished, Running, eventually, free_ports, keelson};

/// The distance from the first host's client port to the discovery service's port.
const SERVICE: u16 = 8;

/// A base port whose hosts' ports are all free.
fn base_port(hosts: u16) -> u16 {
    let mut distances: Vec<u16> = (0..hosts)
        .flat_map(|number| [number * 10, number * 10 + 1])
        .collect();
    distances.push(SERVICE);
    free_ports(&distances)
}

fn arguments(members: u16, proxies: u16, base: u16) -> Vec<String> {
    [
        ("members", members),
        ("proxies", proxies),
        ("base-port", base),
    ]
    .iter()
    .map(|(flag, value)| format!("--{flag}={value}"))
    .collect()
}

fn start(members: u16, proxies: u16, base: u16) -> Running {
    let mut command = keelson();
    command
        .arg("playground")
        .args(arguments(members, proxies, base));
    Running::output_of(&mut command)
}

fn start_on(data: &Path, members: u16, proxies: u16, base: u16) -> Running {
    let mut command = keelson();
    command
        .arg("playground")
        .args(arguments(members, proxies, base))
        .arg("--data-dir")
        .arg(data);
    Running::output_of(&mut command)
}

/// Runs the playground to its own end, which comes only with an error.
fn refused(words: &[String], data: Option<&Path>) -> Finished {
    let mut command = keelson();
    command.arg("playground").args(words);
    if let Some(data) = data {
        command.arg("--data-dir").arg(data);
    }
    Finished::of(command.output().unwrap())
}

fn data_directory(playground: &mut Running) -> PathBuf {
    let line = playground.wait_for("Data and logs: ");
    let path = line.strip_prefix("Data and logs: ").unwrap();
    PathBuf::from(path.strip_suffix(" (removed at the end)").unwrap())
}

fn nobody_listens(hosts: u16, base: u16) -> bool {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    free(base + SERVICE) && (0..hosts).all(|number| free(base + number * 10))
}

/// The rows of the table: name and role.
fn became(playground: &mut Running) -> Vec<(String, String)> {
    playground.wait_for("Ctrl-C stops");
    let rows = playground.seen.iter().filter(|line| line.contains(".log"));
    rows.map(|row| {
        let mut words = row.split_whitespace();
        let mut word = || words.next().unwrap().to_owned();
        (word(), word())
    })
    .collect()
}

fn proxies(became: &[(String, String)]) -> Vec<&str> {
    let proxies = became.iter().filter(|(_, role)| role == "proxy");
    proxies.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn it_shows_what_happens_to_hosts_and_cleans_up() {
    let base = base_port(4);
    let mut playground = start(3, 1, base);
    let data = data_directory(&mut playground);
    let kill = playground.wait_for("kill -9 ");
    let became = became(&mut playground);
    assert_eq!((became.len(), proxies(&became).len()), (4, 1), "{became:?}");
    let leader = kill.split_whitespace().nth(2).unwrap();
    std::process::Command::new("kill")
        .args(["-9", leader])
        .status()
        .unwrap();
    playground.wait_for_all(&["down, was killed by signal 9", "leads, term"]);
    playground.signal("INT");
    playground.wait_for("Ended.");
    assert_eq!(playground.child.wait().unwrap().code(), Some(0));
    assert!(nobody_listens(4, base));
    assert!(!data.exists());
}

/// The terminal is closed: SIGHUP comes, and nothing can be written any more.
#[test]
fn it_cleans_up_when_its_terminal_or_its_reader_is_gone() {
    for hangup in [true, false] {
        let base = base_port(1);
        let mut command = keelson();
        command.arg("playground").args(arguments(1, 0, base));
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut playground = command.spawn().unwrap();
        let mut lines = BufReader::new(playground.stdout.take().unwrap()).lines();
        let mut line_with = |part: &str| {
            let line = lines.find(|line| line.as_ref().unwrap().contains(part));
            line.unwrap().unwrap()
        };
        let data = line_with("Data and logs: ");
        let data = data.split_whitespace().nth(3).unwrap().to_owned();
        line_with("Ctrl-C stops");
        assert!(Path::new(&data).exists(), "{data}");
        if hangup {
            let id = playground.id().to_string();
            let sent = Command::new("kill").args(["-HUP", &id]).status();
            assert!(sent.unwrap().success());
        }
        drop(lines);
        let finished = playground.wait_with_output().unwrap();
        let said = String::from_utf8(finished.stderr).unwrap();
        assert_eq!((finished.status.code(), said.as_str()), (Some(0), ""));
        assert!(nobody_listens(1, base));
        assert!(!Path::new(&data).exists());
    }
}

#[test]
fn what_it_started_does_not_outlive_it() {
    let base = base_port(2);
    let mut playground = start(1, 1, base);
    let data = data_directory(&mut playground);
    playground.wait_for("Ctrl-C stops");
    assert!(!nobody_listens(2, base));
    playground.signal("KILL");
    playground.child.wait().unwrap();
    eventually("the hosts and the service end", || nobody_listens(2, base));
    std::fs::remove_dir_all(data).unwrap();
}

#[test]
fn kept_data_brings_everybody_up_as_what_they_were_without_the_token() {
    let data = tempfile::tempdir().unwrap();
    let base = base_port(5);
    let mut first = start_on(data.path(), 3, 1, base);
    let before = became(&mut first);
    let roles: Vec<String> = proxies(&before).iter().map(ToString::to_string).collect();
    assert_eq!((before.len(), roles.len()), (4, 1), "{before:?}");
    first.signal("INT");
    first.wait_for("Ended.");
    // Until then it has the lock of the directory.
    first.child.wait().unwrap();
    std::fs::remove_dir_all(data.path().join("discovery")).unwrap();

    let mut second = start_on(data.path(), 3, 1, base);
    second.wait_for("not used: the role of every host");
    let after = became(&mut second);
    assert_eq!(proxies(&after), roles, "{after:?}");
    let third = refused(&arguments(3, 1, base_port(4)), Some(data.path()));
    assert_eq!(third.code, Some(1), "{third:?}");
    assert!(third.stderr.contains("in use by another"), "{third:?}");
    assert!(!data.path().join("discovery").exists());
    second.signal("INT");
    second.wait_for("Ended.");
    // Until then it has the lock of the directory.
    second.child.wait().unwrap();

    let fewer = refused(&arguments(1, 0, base), Some(data.path()));
    assert_eq!(fewer.code, Some(1), "{fewer:?}");
    assert!(fewer.stderr.contains("of more hosts, h2"), "{fewer:?}");

    let elsewhere = refused(&arguments(3, 1, base_port(4)), Some(data.path()));
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
    assert!(
        elsewhere.stderr.contains("same --base-port"),
        "{elsewhere:?}"
    );
}

#[test]
fn a_taken_port_is_said_before_anything_is_started() {
    let base = base_port(2);
    let _taken = TcpListener::bind(("127.0.0.1", base + 11)).unwrap();
    let finished = refused(&arguments(1, 1, base), None);
    assert_eq!(finished.code, Some(1));
    let cause = format!("port {} (peers of h2)", base + 11);
    assert!(finished.stderr.contains(&cause), "{finished:?}");
    assert!(finished.stderr.contains("--base-port"), "{finished:?}");
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_host_that_cannot_start_shows_the_end_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("h1"), "no directory").unwrap();
    let finished = refused(&arguments(1, 0, base_port(1)), Some(dir.path()));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("h1 ended with exit status 1"),
        "{finished:?}"
    );
    assert!(finished.stderr.contains(" E | "), "{finished:?}");
}

/// Mutual TLS and auth, by one command.
#[test]
fn a_secure_playground_is_closed_to_strangers() {
    let base = base_port(1);
    let mut command = keelson();
    command.args(["playground", "--secure"]);
    let mut playground = Running::output_of(command.args(arguments(1, 0, base)));
    let tls = data_directory(&mut playground).join("tls");
    playground.wait_for("Ctrl-C stops");
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", base)).unwrap();
    std::io::Write::write_all(&mut plain, b"GET /version HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut plain, &mut answer).unwrap();
    assert!(
        answer.contains("Client sent an HTTP request to an HTTPS server."),
        "{answer}"
    );

    let password = std::fs::read_to_string(tls.join("root.password")).unwrap();
    let doctor = |own: bool, user: bool| {
        let mut command = keelson();
        command.args(["doctor", "--endpoints"]);
        command.arg(format!("https://127.0.0.1:{base}"));
        command.arg("--cacert").arg(tls.join("ca.pem"));
        if own {
            command.arg("--cert").arg(tls.join("client.pem"));
            command.arg("--key").arg(tls.join("client-key.pem"));
        }
        if user {
            command.args(["--user", "root", "--password", password.trim()]);
        }
        Finished::of(command.output().unwrap())
    };
    let found = doctor(false, true);
    assert_eq!(found.code, Some(2), "without a certificate: {found:?}");
    let found = doctor(true, false);
    assert_eq!(found.code, Some(2), "without a user: {found:?}");
    assert!(found.stdout.contains("user name is empty"), "{found:?}");
    let found = doctor(true, true);
    assert_eq!(found.code, Some(1), "one voter alone: {found:?}");
    assert!(found.stdout.contains("1 of 1 members answer"), "{found:?}");
    playground.signal("INT");
    playground.wait_for("Ended.");
}
