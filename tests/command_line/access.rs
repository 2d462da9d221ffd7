//! The effect of flags and requests on the ports of a running member and proxy.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::member::member;
use crate::process::{Running, eventually, free_port, keelson};

const UI: &str = "https://ui.example:443";

const FLAGS: [&str; 4] = ["--cors", UI, "--host-whitelist", "here"];

/// One request from a page of this origin; returns the whole answer, or an empty text without one.
fn ask(port: u16, (method, path, body): (&str, &str, &str), host: &str, origin: &str) -> String {
    let mut answer = String::new();
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else {
        return answer;
    };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let _ = socket.write_all(request.as_bytes());
    let _ = socket.read_to_string(&mut answer);
    answer
}

#[track_caller]
fn check_access(port: u16, path: &str) {
    let get = ("GET", path, "");
    let allowed = |answer: &str| {
        answer
            .to_lowercase()
            .contains("\r\naccess-control-allow-origin")
    };
    let listed = ask(port, get, "here:2379", UI);
    assert!(listed.starts_with("HTTP/1.1 200 "), "{listed}");
    assert!(allowed(&listed), "{listed}");
    let other = ask(port, get, "here", "https://evil.example:443");
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    assert!(!allowed(&other), "{other}");
    let misdirected = ask(port, get, "evil.example", UI);
    assert!(misdirected.starts_with("HTTP/1.1 421 "), "{misdirected}");
}

/// The port's own tests do not show that it gets the flags.
#[test]
fn a_member_obeys_cors_and_host_whitelist() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_port();
    let mut command = member(&dir.path().join("m"), client, free_port());
    let mut member = Running::log_of(command.args(FLAGS));
    member.wait_for("ready to serve client requests");
    check_access(client, "/v2/keys");
}

/// The member has no such flags: otherwise it would refuse what the proxy forwards.
#[test]
fn a_proxy_obeys_cors_and_host_whitelist() {
    let dir = tempfile::tempdir().unwrap();
    let (peer, proxied) = (free_port(), free_port());
    let mut member = Running::log_of(&mut member(&dir.path().join("m"), free_port(), peer));
    member.wait_for("ready to serve client requests");
    let mut command = keelson();
    command.args(["--proxy=on", "--data-dir"]);
    command.arg(dir.path().join("p")).args(FLAGS).args([
        "--listen-client-urls",
        &format!("http://127.0.0.1:{proxied}"),
        "--initial-cluster",
        &format!("m1=http://127.0.0.1:{peer}"),
    ]);
    let _proxy = Running::log_of(&mut command);
    eventually("the proxy serves", || {
        ask(proxied, ("GET", "/v2/keys", ""), "here", UI).starts_with("HTTP/1.1 200 ")
    });
    check_access(proxied, "/v2/keys");
}

/// It was answered with 204 and changed nothing.
#[test]
fn the_log_level_of_a_member_is_changed_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_port();
    let mut command = member(&dir.path().join("m"), client, free_port());
    let mut member = Running::log_of(&mut command);
    member.wait_for("ready to serve client requests");
    let put = ("PUT", "/config/local/log", "{\"Level\":\"DEBUG\"}");
    let answer = ask(client, put, "here", UI);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let line = member.wait_for("the log level was changed");
    assert!(line.contains("debug"), "{line}");
    // A line that only the new level has: about a client that leaves in the middle of a request.
    let mut broken = TcpStream::connect(("127.0.0.1", client)).unwrap();
    broken.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nA").unwrap();
    drop(broken);
    member.wait_for("\"level\":\"debug\"");
}
