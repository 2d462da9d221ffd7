//! Tokens that clients use at some members alone.

use std::time::Duration;

use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_store::Config;

use crate::auth::{AuthCluster, with_token};

/// A client behind a proxy read at one member, and its change was refused at the leader.
#[tokio::test]
async fn a_token_that_is_used_at_one_member_is_valid_at_all() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let short = |config: &mut Config| config.auth_token_ttl_s = 2;
    let cluster = AuthCluster::with(dir.path(), 3, short).await?;
    let token = cluster.log_in(0, "alice", "pw").await?;
    let mut one = KvClient::new(cluster.channels[0].clone());
    let range = || RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let mut uses = tokio::time::interval(Duration::from_millis(300));
    let began = uses.tick().await;
    while began.elapsed() < Duration::from_millis(3_500) {
        one.range(with_token(&token, range())).await?;
        uses.tick().await;
    }
    for channel in &cluster.channels[1..] {
        let mut other = KvClient::new(channel.clone());
        other.range(with_token(&token, range())).await?;
    }
    cluster.stop().await;
    Ok(())
}
