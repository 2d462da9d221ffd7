//! Watches and keepalives of the v3 API before a cluster of real etcd members.

use keelson_proto::etcdserverpb as pb;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::resumption::{Client as Watch, create};
use crate::support::{Side, until};

type KeepAlive = Side<pb::LeaseKeepAliveResponse, pb::LeaseKeepAliveRequest>;

/// The number of watches that a member has.
async fn watchers(member: &Etcd) -> usize {
    let metrics = get(member.client, "/metrics").await.body;
    let name = "etcd_debugging_mvcc_watcher_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The number of watches that all members have.
async fn all_watchers(members: &[Etcd]) -> usize {
    let mut all = 0;
    for member in members {
        all += watchers(member).await;
    }
    all
}

/// Puts, as often as it takes.
async fn put_value(kv: &mut KvClient<Channel>, value: &str) {
    let request = pb::PutRequest {
        key: "k".into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    until("a put succeeds", async || {
        kv.put(request.clone()).await.is_ok()
    })
    .await;
}

/// The revisions and values of the events up to this value.
async fn events_to(watch: &mut Watch, last: &str) -> Vec<(i64, String)> {
    let mut events = vec![];
    loop {
        for event in watch.take().await.events {
            let kv = event.kv.unwrap();
            let value = String::from_utf8(kv.value.to_vec()).unwrap();
            events.push((kv.mod_revision, value));
        }
        if events.last().is_some_and(|(_, value)| value == last) {
            return events;
        }
    }
}

#[tokio::test]
async fn watches_and_keepalives_outlive_a_member_and_equal_watches_are_one_where_that_is_exact() {
    const WATCHES: usize = 20;
    let Some(mut members) = Etcd::cluster(3).await else {
        return;
    };
    let proxy = members[0].proxy_of(3).await;
    let url = format!("http://{}", proxy.address);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut kv = KvClient::new(channel.clone());
    let granted = LeaseClient::new(channel.clone())
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 7 })
        .await;
    assert_eq!(granted.unwrap().into_inner().id, 7);
    let renew = pb::LeaseKeepAliveRequest { id: 7 };
    let mut keepalive = KeepAlive::keepalive_with(&channel, Some(renew)).await;
    assert_eq!(keepalive.take().await.ttl, 60);
    let mut watches = vec![];
    for _ in 0..WATCHES {
        let first = Some(create("a", 0, 0));
        let mut watch = Watch::watch_with(&channel, first).await;
        assert!(watch.take().await.created);
        watches.push(watch);
    }
    put_value(&mut kv, "first").await;
    // This release may state its progress before it has sent the events (etcd-io/etcd#15220).
    let version = get(members[0].client, "/version").await.body;
    let expected = if version.contains("\"3.4.23\"") {
        WATCHES
    } else {
        1
    };
    let has_watches = async || all_watchers(&members).await == expected;
    until("the members have the watches", has_watches).await;
    for n in 0..50 {
        put_value(&mut kv, &format!("{n}")).await;
    }
    let mut serving = 0;
    while watchers(&members[serving]).await == 0 {
        serving += 1;
    }
    members[serving].kill().await;
    for n in 50..100 {
        put_value(&mut kv, &format!("{n}")).await;
    }
    put_value(&mut kv, "last").await;
    keepalive.send(renew).await;
    assert_eq!(keepalive.take().await.ttl, 60);
    let range = pb::RangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    let found = kv.range(range).await.unwrap().into_inner();
    let expected = events_to(&mut watches[0], "last").await;
    // Each change of the key, once and in order.
    assert_eq!(expected.len() as i64, found.kvs[0].version);
    assert!(expected.is_sorted_by(|one, next| one.0 < next.0));
    for watch in &mut watches[1..] {
        assert_eq!(events_to(watch, "last").await, expected);
    }
}
