//! The answers of a fresh etcd 3.4.23 to a list of requests, compared word for word.
//!
//! The files contain, for each request, its line and headers (`> `), its body (`| `), the status
//! and headers of the answer (`< `) and its body (`= `, with `\n`, `\\` and `\x7f`). Headers
//! about the connection, and those of every answer for pages of other origins, are omitted; `*`
//! stands for values that differ between clusters.

use super::{Answer, Port, ask, start};

struct Case {
    request: String,
    headers: String,
    body: Option<String>,
    /// The status and the headers.
    head: Vec<String>,
    answer: String,
}

fn parse(recorded: &str) -> Vec<Case> {
    let cases = recorded
        .split("\n\n")
        .filter(|case| !case.trim().is_empty());
    cases
        .map(|case| {
            let mut sent: Vec<String> = Vec::new();
            let mut parsed = Case {
                request: String::new(),
                headers: String::new(),
                body: None,
                head: Vec::new(),
                answer: String::new(),
            };
            for line in case.lines() {
                let (kind, text) = line.split_at(2);
                match kind {
                    "> " => sent.push(text.to_owned()),
                    "| " => parsed.body = Some(text.to_owned()),
                    "< " => parsed.head.push(text.to_owned()),
                    "= " => parsed.answer = text.to_owned(),
                    _ => panic!("{line}"),
                }
            }
            parsed.request = sent.remove(0);
            parsed.headers = sent.iter().map(|header| format!("{header}\r\n")).collect();
            parsed
        })
        .collect()
}

/// The answer in the format of the files.
fn recorded(answer: &Answer) -> (Vec<String>, String) {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter_map(|line| header(line))
        .collect();
    headers.sort();
    headers.insert(0, answer.status.clone());
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    (headers, without_dates(&text.replace('\x7f', "\\x7f")))
}

fn header(line: &str) -> Option<String> {
    let (name, _) = line.split_once(':').unwrap();
    match name {
        "Date" | "Content-Length" | "Connection" | "Transfer-Encoding" => None,
        "X-Raft-Index" | "X-Raft-Term" | "X-Etcd-Cluster-Id" => Some(format!("{name}: *")),
        name if name.starts_with("Access-Control-") => None,
        _ => Some(line.to_owned()),
    }
}

fn without_dates(text: &str) -> String {
    let name = "\"expiration\":\"";
    let mut parts = text.split(name);
    let mut masked = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('"').unwrap();
        masked += &format!("{name}*\"{rest}");
    }
    masked
}

async fn replay(port: &Port, file: &str) {
    let mut wrong = Vec::new();
    for case in parse(file) {
        let (method, target) = case.request.split_once(' ').unwrap();
        let answer = ask(port, method, target, &case.headers, case.body.as_deref()).await;
        let was = recorded(&answer);
        if was != (case.head.clone(), case.answer.clone()) {
            let (request, body) = (&case.request, &case.body);
            let (head, answer) = (&case.head, &case.answer);
            wrong.push(format!(
                "{request} {body:?}\n  etcd {head:?}\n       {answer}\n  ours {:?}\n       {}\n",
                was.0, was.1
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.concat()
    );
}

#[tokio::test]
async fn keys_are_answered_as_by_etcd() {
    replay(&start().await, include_str!("keys.txt")).await;
}

#[tokio::test]
async fn auth_is_answered_as_by_etcd() {
    let port = start().await;
    has_etcds_members(&port);
    replay(&port, include_str!("auth.txt")).await;
}

#[tokio::test]
async fn the_rest_is_answered_as_by_etcd() {
    let port = start().await;
    has_etcds_members(&port);
    replay(&port, include_str!("rest.txt")).await;
}

/// Sets the members of the recorded etcd.
fn has_etcds_members(port: &Port) {
    use keelson_proto::etcdserverpb::Member;
    let member = Member {
        id: 0xcafe,
        name: "m1".to_owned(),
        peer_ur_ls: vec!["http://127.0.0.1:23902".to_owned()],
        client_ur_ls: vec!["http://127.0.0.1:23901".to_owned()],
        is_learner: false,
    };
    port.fake.set(|state| state.members = Some(vec![member]));
}
