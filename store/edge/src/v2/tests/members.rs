//! Membership changes that do not depend on a cluster. The recorded answers of etcd cover the
//! earlier checks.

use keelson_core::state;
use keelson_proto::etcdserverpb::Member;

use super::{Port, ask, get, start};
use crate::Error;

const URLS: &str = r#"{"peerURLs":["http://10.0.0.2:2380"]}"#;

async fn send(port: &Port, method: &str, below: &str, body: Option<&str>) -> (String, String) {
    let json = "Content-Type: application/json\r\n";
    let answer = ask(port, method, &format!("/v2/members{below}"), json, body).await;
    assert!(answer.has("X-Etcd-Cluster-Id: beef"));
    (answer.status.clone(), answer.text())
}

async fn ending(outcome: Result<Member, Error>) -> Port {
    let port = start().await;
    port.fake.set(|state| state.member_change = Some(outcome));
    port
}

fn unstarted() -> Member {
    Member {
        id: 0xcf7a,
        peer_ur_ls: vec!["http://10.0.0.2:2380".to_owned()],
        ..Member::default()
    }
}

#[tokio::test]
async fn a_member_that_was_added_is_shown_without_a_name() {
    let port = ending(Ok(unstarted())).await;
    let (status, body) = send(&port, "POST", "", Some(URLS)).await;
    assert_eq!(status, "201 Created");
    let member = concat!(
        r#"{"id":"cf7a","name":"","peerURLs":["http://10.0.0.2:2380"],"#,
        r#""clientURLs":[]}"#
    );
    assert_eq!(body, format!("{member}\n"));
}

#[tokio::test]
async fn what_succeeds_is_answered_with_nothing() {
    let port = ending(Ok(unstarted())).await;
    for (method, body) in [("PUT", Some(URLS)), ("DELETE", None)] {
        let expected = ("204 No Content".to_owned(), String::new());
        assert_eq!(send(&port, method, "/CF7A", body).await, expected);
    }
}

#[tokio::test]
async fn errors_are_etcds() {
    let internal = "Internal Server Error";
    let error = "500 Internal Server Error";
    let (conflict, missing) = ("409 Conflict", "404 Not Found");
    let exists = "membership: peerURL exists";
    let none = "No such member: cf7a";
    for (outcome, add, update, remove) in [
        (
            Error::State(state::Error::PeerUrlExist),
            (conflict, exists),
            (conflict, exists),
            (conflict, exists),
        ),
        (
            Error::State(state::Error::MemberExist),
            (conflict, "membership: ID exists"),
            (conflict, "membership: ID exists"),
            (conflict, "membership: ID exists"),
        ),
        (
            Error::State(state::Error::MemberNotFound),
            (missing, "No such member: 0"),
            (missing, none),
            (missing, none),
        ),
        (
            Error::Unhealthy,
            (error, internal),
            (error, internal),
            (error, internal),
        ),
        (
            Error::Timeout,
            (error, internal),
            (error, internal),
            (error, internal),
        ),
    ] {
        let port = ending(Err(outcome)).await;
        for (method, below, body, (status, message)) in [
            ("POST", "", Some(URLS), add),
            ("PUT", "/cf7a", Some(URLS), update),
            ("DELETE", "/cf7a", None, remove),
        ] {
            let expected = (status.to_owned(), format!(r#"{{"message":"{message}"}}"#));
            assert_eq!(send(&port, method, below, body).await, expected, "{method}");
        }
    }
}

#[tokio::test]
async fn a_removed_member_is_gone() {
    let port = ending(Err(Error::State(state::Error::MemberNotFound))).await;
    port.fake.set(|state| state.removed.push(0xcf7a));
    let (status, body) = send(&port, "DELETE", "/cf7a", None).await;
    assert_eq!(status, "410 Gone");
    assert_eq!(body, r#"{"message":"Member permanently removed: cf7a"}"#);
    let (status, _) = send(&port, "PUT", "/cf7a", Some(URLS)).await;
    assert_eq!(status, "500 Internal Server Error");
}

#[tokio::test]
async fn members_are_sorted_by_id_and_machines_by_url() {
    let port = start().await;
    let started = |id, host: &str| Member {
        id,
        name: host.to_owned(),
        peer_ur_ls: vec![format!("http://{host}:2380")],
        client_ur_ls: vec![format!("http://{host}:4001"), format!("http://{host}:2379")],
        ..Member::default()
    };
    let members = vec![started(9, "10.0.0.1"), unstarted(), started(7, "10.0.0.3")];
    port.fake.set(|state| state.members = Some(members));
    let machines = get(&port, "/v2/machines").await.text();
    assert_eq!(
        machines,
        "http://10.0.0.1:2379, http://10.0.0.1:4001, http://10.0.0.3:2379, http://10.0.0.3:4001"
    );
    let members = get(&port, "/v2/members").await.text();
    let at = |id: &str| members.find(&format!(r#"{{"id":"{id}","#)).unwrap();
    assert!(members.starts_with(r#"{"members":[{"id":"7","name":"10.0.0.3","#));
    assert!(at("7") < at("9") && at("9") < at("cf7a"));
}
