//! Debian's etcd-discovery: our hosts come up through it, and our service answers as it does.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use keelson_discovery::new_token;
use keelson_discovery::service::ServiceOptions;
use keelson_port::ClientTls;

use crate::client::{self, Response, ask};
use crate::etcd::{Etcd, Process, free_port, program, registered};
use crate::hosts::{boot, check};
use crate::service::Service;

/// Debian's service in front of this etcd; `None` if it is not installed.
async fn debian(etcd: &Etcd) -> Result<Option<(Process, String)>> {
    let Some(binary) = program("discovery.etcd.io")? else {
        return Ok(None);
    };
    let address = format!("127.0.0.1:{}", free_port()?);
    let url = format!("http://{address}");
    let mut command = Command::new(binary);
    command.args(["-a", &address, "-h", &url, "-e", &etcd.url()]);
    let process = Process::start(&mut command)?;
    client::until_ok(&format!("{url}/health")).await?;
    Ok(Some((process, url)))
}

#[tokio::test]
async fn our_hosts_come_up_through_debians_service() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let Some((_process, service)) = debian(&etcd).await? else {
        return Ok(());
    };
    for (size, hosts) in [(5, 8), (3, 3)] {
        let url = new_token(&service, size.to_string().parse()?, &ClientTls::default())
            .await?
            .to_string();
        let delays =
            (1..=hosts).map(|number| (number, Duration::from_millis(7 * number as u64 % 11)));
        check(&boot(&url, delays).await?, size)?;
        ensure!(registered(&url).await?.len() == size);
    }
    Ok(())
}

#[tokio::test]
async fn our_service_answers_as_debians_does() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let Some((_process, theirs)) = debian(&etcd).await? else {
        return Ok(());
    };
    let for_ever = ServiceOptions {
        token_ttl: None,
        ..ServiceOptions::default()
    };
    let ours = Service::before(&etcd.url(), for_ever).await?;
    let mut tokens = Vec::new();
    for service in [&theirs, &ours.url] {
        let answer = ask("GET", &format!("{service}/new?size=2"), "").await?;
        tokens.push(answer.body.replace(&format!("{service}/"), ""));
    }
    for (method, path, form) in REQUESTS {
        let mut answers = Vec::new();
        for (service, token) in [&theirs, &ours.url].into_iter().zip(&tokens) {
            let path = path.replace("<T>", token);
            let answer = ask(method, &format!("{service}{path}"), form).await?;
            answers.push(comparable(answer, service, token));
        }
        ensure!(answers[0] == answers[1], "{method} {path}: {answers:#?}");
    }
    Ok(())
}

/// In this order: later requests depend on earlier ones. There are no waits: ours are chunked, as
/// etcd's are, because their headers are sent before there is an event.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "/new?size=5", ""),
    ("GET", "/new?size=", ""),
    ("GET", "/new", ""),
    ("POST", "/new", "size=4"),
    ("GET", "/new?size=abc", ""),
    ("GET", "/new?size=99999999999999999999", ""),
    ("GET", "/new/", ""),
    ("GET", "/health", ""),
    ("GET", "/", ""),
    ("GET", "/robots.txt", ""),
    ("GET", "/nosuch", ""),
    ("GET", "/<T>", ""),
    ("GET", "/<T>/", ""),
    ("GET", "/<T>/_config", ""),
    ("GET", "/<T>/_config/size", ""),
    (
        "GET",
        "/<T>/_config/size?quorum=false&recursive=false&sorted=false",
        "",
    ),
    ("PUT", "/<T>/_config/size", "value=3"),
    ("PUT", "/<T>/abc?prevExist=false", "value=x=http://a:1"),
    ("PUT", "/<T>/abc?prevExist=false", "value=x=http://a:1"),
    ("GET", "/<T>/abc", ""),
    ("GET", "/<T>?recursive=true&sorted=true", ""),
    ("PUT", "/<T>", "dir=true"),
    ("DELETE", "/<T>/abc?prevValue=other", ""),
    ("DELETE", "/<T>/abc", ""),
    ("DELETE", "/<T>/abc", ""),
    ("DELETE", "/<T>", ""),
    ("GET", "/<T>/a/b", ""),
    ("GET", "/<T>/x%2Fy", ""),
    ("GET", "/<T>//x?a=1&b=2", ""),
    ("POST", "/<T>", ""),
    ("POST", "/<T>/abc", "value=1"),
    ("OPTIONS", "/<T>/abc", ""),
    ("GET", "/00000000000000000000000000000000/_config/size", ""),
    ("GET", "/<T>0/_config/size", ""),
];

/// Status, headers and body, without the parts that differ between requests or tokens.
fn comparable(answer: Response, service: &str, token: &str) -> (u16, Vec<String>, String) {
    let Response { status, head, body } = answer;
    let moving = ["date", "x-etcd-index", "x-raft-index", "connection"];
    let mut headers: Vec<String> = head
        .lines()
        .skip(1)
        .map(str::to_ascii_lowercase)
        .filter(|line| {
            !moving
                .iter()
                .any(|name| line.starts_with(&format!("{name}:")))
        })
        .collect();
    headers.sort_unstable();
    let body = body.replace(service, "<S>").replace(token, "<T>");
    let headers = headers
        .iter()
        .map(|line| line.replace(token, "<T>"))
        .collect();
    (status, headers, without_numbers(&body))
}

/// Masks indices, and the ids of new tokens.
fn without_numbers(body: &str) -> String {
    let Some((start, token)) = body.split_once("<S>/") else {
        let parts = body.split_inclusive("ndex\":");
        return parts
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
            .collect();
    };
    format!("{start}<S>/{} digits", token.len())
}
