//! Without a leader: reads succeed, and requests that need the quorum fail.

use super::{Port, ask, get, put, start};

async fn leaderless() -> Port {
    let port = start().await;
    put(&port, "/v2/keys/foo", "value=1").await;
    port.fake.set(|state| state.leaderless = true);
    port
}

const TIMED_OUT: &str = concat!(
    r#"{"errorCode":300,"message":"Raft Internal Error","#,
    r#""cause":"etcdserver: request timed out","index":0}"#,
    "\n"
);

#[tokio::test]
async fn reads_are_answered_without_a_leader() {
    let port = leaderless().await;
    let expected = concat!(
        r#"{"action":"get","node":{"key":"/foo","value":"1","modifiedIndex":4,"#,
        r#""createdIndex":4}}"#,
        "\n"
    );
    for target in ["/v2/keys/foo", "/v2/keys/foo?quorum=false"] {
        let answer = get(&port, target).await;
        assert_eq!((&*answer.status, &*answer.text()), ("200 OK", expected));
    }
    assert_eq!(get(&port, "/v2/members").await.status, "200 OK");
    assert_eq!(get(&port, "/v2/machines").await.status, "200 OK");
}

#[tokio::test]
async fn changes_and_quorum_reads_are_internal_errors() {
    let port = leaderless().await;
    for (method, target) in [
        ("PUT", "/v2/keys/foo?value=1"),
        ("POST", "/v2/keys/foo?value=1"),
        ("DELETE", "/v2/keys/foo"),
        ("GET", "/v2/keys/foo?quorum=true"),
    ] {
        let answer = ask(&port, method, target, "", None).await;
        assert_eq!(answer.status, "500 Internal Server Error");
        assert_eq!(answer.text(), TIMED_OUT);
        assert!(answer.has("X-Etcd-Index: 0"));
        assert!(answer.has("X-Etcd-Cluster-Id: beef"));
        assert!(!answer.headers.iter().any(|had| had.starts_with("X-Raft")));
    }
}

#[tokio::test]
async fn there_is_no_leader_to_name() {
    let port = leaderless().await;
    let answer = get(&port, "/v2/members/leader").await;
    assert_eq!(answer.status, "503 Service Unavailable");
    assert_eq!(answer.text(), r#"{"message":"During election"}"#);
    let answer = get(&port, "/v2/stats/leader").await;
    assert_eq!(answer.status, "403 Forbidden");
    assert_eq!(answer.text(), r#"{"message":"not current leader"}"#);
}

#[tokio::test]
async fn users_and_roles_cannot_be_changed() {
    let port = leaderless().await;
    let body = Some(r#"{"user":"x","password":"y"}"#);
    let answer = ask(&port, "PUT", "/v2/auth/users/x", "", body).await;
    assert_eq!(answer.status, "500 Internal Server Error");
    assert_eq!(answer.text(), r#"{"message":"Internal Server Error"}"#);
    assert_eq!(
        get(&port, "/v2/auth/users").await.text(),
        "{\"users\":null}\n"
    );
}
