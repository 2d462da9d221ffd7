//! The counters of `/v2/stats`.

use super::{ask, get, put, start};

#[tokio::test]
async fn requests_are_counted_by_what_they_did() {
    let port = start().await;
    put(&port, "/v2/keys/foo", "value=1").await;
    put(&port, "/v2/keys/foo", "value=1&prevExist=true").await;
    put(&port, "/v2/keys/foo", "value=1&prevExist=false").await;
    put(&port, "/v2/keys/foo", "value=1&prevValue=1").await;
    put(&port, "/v2/keys/foo", "value=1&prevIndex=1").await;
    ask(&port, "POST", "/v2/keys/dir", "", None).await;
    get(&port, "/v2/keys/foo").await;
    get(&port, "/v2/keys/nope").await;
    ask(&port, "DELETE", "/v2/keys/foo?prevValue=1", "", None).await;
    ask(&port, "DELETE", "/v2/keys/foo", "", None).await;
    let stats = get(&port, "/v2/stats/store").await;
    assert!(stats.has("Content-Type: application/json"));
    let expected = concat!(
        r#"{"getsSuccess":1,"getsFail":1,"setsSuccess":1,"setsFail":0,"#,
        r#""deleteSuccess":0,"deleteFail":1,"updateSuccess":1,"updateFail":0,"#,
        r#""createSuccess":1,"createFail":1,"compareAndSwapSuccess":1,"#,
        r#""compareAndSwapFail":1,"compareAndDeleteSuccess":1,"#,
        r#""compareAndDeleteFail":0,"expireCount":0,"watchers":0}"#
    );
    assert_eq!(stats.text(), expected);
}

#[tokio::test]
async fn a_leader_reports_its_statistics() {
    let port = start().await;
    let expected = concat!(
        r#"{"name":"m1","id":"cafe","state":"StateLeader","#,
        r#""startTime":"2026-11-23T02:39:11.5Z","leaderInfo":{"leader":"cafe","#,
        r#""uptime":"1.5s","startTime":"2026-11-23T02:39:12Z"},"#,
        r#""recvAppendRequestCnt":0,"sendAppendRequestCnt":0}"#
    );
    assert_eq!(get(&port, "/v2/stats/self").await.text(), expected);
    let expected = r#"{"leader":"cafe","followers":{}}"#;
    assert_eq!(get(&port, "/v2/stats/leader").await.text(), expected);
}
