//! Elections over gRPC and JSON.

use bytes::Bytes;
use keelson_proto::v3electionpb::election_client::ElectionClient;
use keelson_proto::v3electionpb::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::gateway::post;
use super::lock::{below, grant, revoke, until};
use super::{Port, within};

async fn client(port: &Port) -> ElectionClient<Channel> {
    ElectionClient::new(port.channel().await)
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest {
        name: "e".into(),
        lease,
        value: value.into(),
    }
}

fn election() -> LeaderRequest {
    LeaderRequest { name: "e".into() }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

async fn next(leaders: &mut Streaming<LeaderResponse>) -> (Bytes, Bytes, i64) {
    let leader = within(leaders.message()).await.unwrap().unwrap();
    let kv = leader.kv.unwrap();
    (kv.key, kv.value, leader.header.unwrap().revision)
}

#[tokio::test]
async fn the_first_candidate_leads_until_it_resigns() {
    let port = Port::start().await;
    let mut elections = client(&port).await;
    let no_leader = (Code::Unknown, "election: no leader".to_owned());
    assert_eq!(refusal(elections.leader(election()).await), no_leader);
    for lease in [255, 2, 3] {
        grant(&port, lease).await;
    }
    let won = elections.campaign(campaign(255, "a")).await.unwrap();
    let first = won.into_inner().leader.unwrap();
    let expected = LeaderKey {
        name: "e".into(),
        key: "e/ff".into(),
        rev: 2,
        lease: 255,
    };
    assert_eq!(first, expected);
    let mut other = elections.clone();
    let second = tokio::spawn(async move { other.campaign(campaign(2, "b")).await });
    until("it is a candidate", || below(&port.fake, "e/").len() == 2).await;
    let value = Bytes::from_static(b"a2");
    let leader = Some(first.clone());
    let proclaim = ProclaimRequest { leader, value };
    elections.proclaim(proclaim.clone()).await.unwrap();
    let leader = elections.leader(election()).await.unwrap().into_inner();
    assert_eq!(leader.kv.unwrap().value, "a2");
    assert!(!second.is_finished());
    let leader = Some(first.clone());
    elections.resign(ResignRequest { leader }).await.unwrap();
    let second = within(second).await.unwrap().unwrap().into_inner();
    let header = second.header.unwrap().revision;
    let second = second.leader.unwrap();
    assert_eq!((&second.key, second.rev), (&"e/2".into(), header));
    let not_leader = (Code::Unknown, "election: not leader".to_owned());
    assert_eq!(refusal(elections.proclaim(proclaim).await), not_leader);
    // To resign twice is no error, as in etcd.
    let leader = Some(first);
    elections.resign(ResignRequest { leader }).await.unwrap();
    assert_eq!(below(&port.fake, "e/"), ["e/2"]);
}

#[tokio::test]
async fn a_candidate_that_campaigns_again_replaces_its_value() {
    let port = Port::start().await;
    let mut elections = client(&port).await;
    grant(&port, 7).await;
    let first = elections.campaign(campaign(7, "a")).await.unwrap();
    let again = elections.campaign(campaign(7, "b")).await.unwrap();
    let leaders = [first, again].map(|won| won.into_inner().leader.unwrap());
    assert_eq!(leaders[0], leaders[1]);
    let leader = elections.leader(election()).await.unwrap().into_inner();
    assert_eq!(leader.kv.unwrap().value, "b");
}

/// In etcd such a candidate leads.
#[tokio::test]
async fn a_candidate_whose_session_ends_does_not_lead() {
    let port = Port::start().await;
    let elections = client(&port).await;
    for lease in [1, 2] {
        grant(&port, lease).await;
    }
    let mut first = elections.clone();
    first.campaign(campaign(1, "a")).await.unwrap();
    let mut other = elections.clone();
    let second = tokio::spawn(async move { other.campaign(campaign(2, "b")).await });
    until("it is a candidate", || below(&port.fake, "e/").len() == 2).await;
    revoke(&port, 2).await;
    let not_leader = (Code::Unknown, "election: not leader".to_owned());
    assert_eq!(refusal(within(second).await.unwrap()), not_leader);
}

#[tokio::test]
async fn an_observer_is_sent_each_leader_and_value() {
    let mut port = Port::start().await;
    let mut elections = client(&port).await;
    for lease in [1, 2, 3] {
        grant(&port, lease).await;
    }
    let mut early = elections.observe(election()).await.unwrap().into_inner();
    let won = elections.campaign(campaign(1, "a")).await.unwrap();
    let first = won.into_inner().leader;
    assert_eq!(next(&mut early).await, ("e/1".into(), "a".into(), 2));
    let mut late = elections.observe(election()).await.unwrap().into_inner();
    assert_eq!(next(&mut late).await, ("e/1".into(), "a".into(), 2));
    let proclaim = |value| ProclaimRequest {
        leader: first.clone(),
        value,
    };
    elections.proclaim(proclaim("a2".into())).await.unwrap();
    elections.proclaim(proclaim("a3".into())).await.unwrap();
    let mut other = elections.clone();
    let second = tokio::spawn(async move { other.campaign(campaign(2, "b")).await });
    until("it is a candidate", || below(&port.fake, "e/").len() == 2).await;
    for leaders in [&mut early, &mut late] {
        assert_eq!(next(leaders).await.1, "a2");
        assert_eq!(next(leaders).await.1, "a3");
    }
    revoke(&port, 1).await;
    within(second).await.unwrap().unwrap();
    for leaders in [&mut early, &mut late] {
        assert_eq!(next(leaders).await.0, "e/2");
    }
    // No leader for a while.
    revoke(&port, 2).await;
    elections.campaign(campaign(3, "c")).await.unwrap();
    for leaders in [&mut early, &mut late] {
        assert_eq!(next(leaders).await.1, "c");
    }
    port.begin_shutdown();
    let status = within(early.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

/// Recorded from etcd 3.4.23, except for the ids.
#[tokio::test]
async fn elections_in_json_read_as_etcds() {
    let port = Port::start().await;
    let missing = r#"\"leader\" field must be provided"#;
    for (path, body, text) in [
        ("leader", r#"{"name":"ZQ=="}"#, "election: no leader"),
        ("proclaim", "{}", missing),
        ("resign", "{}", missing),
        (
            "proclaim",
            r#"{"leader":{}}"#,
            "etcdserver: key is not provided",
        ),
        (
            "resign",
            r#"{"leader":{}}"#,
            "etcdserver: key is not provided",
        ),
        (
            "campaign",
            r#"{"name":"ZQ==","lease":"77"}"#,
            "etcdserver: requested lease not found",
        ),
    ] {
        let (head, answer) = post(&port, &format!("/v3/election/{path}"), body).await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{path}: {head}");
        let expected = format!(r#""message":"{text}""#);
        assert!(answer.contains(&expected), "{path}: {answer}");
    }
    let body = r#"{"name":"ZQ=="}"#;
    let mut socket = port.connect().await;
    let head = format!(
        "POST /v3/election/observe HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    grant(&port, 255).await;
    let body = r#"{"name":"ZQ==","value":"dg==","lease":"255"}"#;
    let (_, won) = post(&port, "/v3/election/campaign", body).await;
    let leader = r#""leader":{"name":"ZQ==","key":"ZS9mZg==","rev":"2","lease":"255"}}"#;
    assert!(won.ends_with(leader), "{won}");
    let mut lines = BufReader::new(socket).lines();
    let line = loop {
        let line = within(lines.next_line()).await.unwrap().unwrap();
        if line.starts_with('{') {
            break line;
        }
    };
    let kv = concat!(
        r#""kv":{"key":"ZS9mZg==","create_revision":"2","mod_revision":"2","version":"1","#,
        r#""value":"dg==","lease":"255"}}}"#,
    );
    assert!(
        line.starts_with(r#"{"result":{"header":"#) && line.ends_with(kv),
        "{line}"
    );
}
