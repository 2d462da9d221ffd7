//! Auth of members that serve clients.

mod cluster;
mod enabling;

use std::time::Duration;

use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::*;
use keelson_proto::v3electionpb::election_client::ElectionClient;
use keelson_proto::v3electionpb::{CampaignRequest, LeaderRequest};
use keelson_proto::v3lockpb::lock_client::LockClient;
use keelson_proto::v3lockpb::{LockRequest, UnlockRequest};
use keelson_store::auth::Caller;
use keelson_store::{Config, Error, StateError};
use tonic::Code;

use crate::embedded::open_one;

use self::cluster::serve;
pub(crate) use self::cluster::{AuthCluster, with_token};

const USER_EMPTY: &str = "etcdserver: user name is empty";

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// As from a certificate.
fn user(name: &str) -> Caller {
    let name = name.to_owned();
    Caller::User { name, since: 0 }
}

macro_rules! refused {
    ($($call:expr),+ $(,)?) => {
        $({
            let refused = $call.await.map(drop).expect_err(stringify!($call));
            assert_eq!(refused.message(), USER_EMPTY, "{}", stringify!($call));
        })+
    };
}

/// CVE-2026-33413: members, alarms and leases could be used without a user.
#[tokio::test(flavor = "multi_thread")]
async fn no_service_answers_a_caller_without_a_user() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let started = AuthCluster::start(dir.path(), 1).await?;
    let channel = started.channels[0].clone();
    let mut kv = KvClient::new(channel.clone());
    let mut lease = LeaseClient::new(channel.clone());
    let mut cluster = ClusterClient::new(channel.clone());
    let key = || bytes::Bytes::from_static(b"a");
    refused!(
        kv.range(RangeRequest {
            key: key(),
            ..Default::default()
        }),
        kv.put(put("a")),
        kv.delete_range(DeleteRangeRequest {
            key: key(),
            ..Default::default()
        }),
        kv.txn(TxnRequest::default()),
        kv.compact(CompactionRequest::default()),
        lease.lease_grant(LeaseGrantRequest { id: 0, ttl: 10 }),
        lease.lease_revoke(LeaseRevokeRequest { id: 1 }),
        lease.lease_leases(LeaseLeasesRequest {}),
        lease.lease_time_to_live(LeaseTimeToLiveRequest { id: 1, keys: false }),
        cluster.member_list(MemberListRequest {
            linearizable: false
        }),
        cluster.member_add(MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:9".into()],
            is_learner: true,
        }),
        cluster.member_remove(MemberRemoveRequest { id: 1 }),
        cluster.member_update(MemberUpdateRequest {
            id: 1,
            peer_ur_ls: vec!["http://127.0.0.1:9".into()],
        }),
        cluster.member_promote(MemberPromoteRequest { id: 1 }),
    );
    started.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_maintenance_locks_elections_and_auth() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let started = AuthCluster::start(dir.path(), 1).await?;
    let channel = started.channels[0].clone();
    let mut auth = AuthClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let mut lock = LockClient::new(channel.clone());
    let mut election = ElectionClient::new(channel.clone());
    let key = || bytes::Bytes::from_static(b"a");
    refused!(
        maintenance.status(StatusRequest {}),
        maintenance.alarm(AlarmRequest::default()),
        maintenance.defragment(DefragmentRequest {}),
        maintenance.hash_kv(HashKvRequest { revision: 0 }),
        maintenance.move_leader(MoveLeaderRequest { target_id: 1 }),
        maintenance.downgrade(DowngradeRequest {
            action: downgrade_request::DowngradeAction::Validate.into(),
            version: "3.4".into(),
        }),
        lock.lock(LockRequest {
            name: key(),
            lease: 0
        }),
        lock.unlock(UnlockRequest { key: key() }),
        election.campaign(CampaignRequest {
            name: key(),
            ..Default::default()
        }),
        election.leader(LeaderRequest { name: key() }),
        auth.auth_disable(AuthDisableRequest {}),
        auth.user_list(AuthUserListRequest {}),
        auth.user_add(AuthUserAddRequest {
            name: "x".into(),
            ..Default::default()
        }),
        auth.role_list(AuthRoleListRequest {}),
        auth.role_get(AuthRoleGetRequest { role: "r".into() }),
        auth.user_get(AuthUserGetRequest {
            name: "alice".into()
        }),
    );
    started.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_a_user_end_and_the_status_is_for_all() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let started = AuthCluster::start(dir.path(), 1).await?;
    let channel = started.channels[0].clone();
    let mut kv = KvClient::new(channel.clone());
    let mut lease = LeaseClient::new(channel.clone());
    let mut election = ElectionClient::new(channel.clone());
    let mut auth = AuthClient::new(channel);
    let key = || bytes::Bytes::from_static(b"a");
    let mut stream = kv
        .range_stream(RangeRequest {
            key: key(),
            ..Default::default()
        })
        .await
        .expect("a stream")
        .into_inner();
    let refused = stream.message().await.expect_err("no user");
    assert_eq!(refused.message(), USER_EMPTY);
    let ids = tokio_stream::iter([LeaseKeepAliveRequest { id: 1 }]);
    let mut renewals = lease
        .lease_keep_alive(ids)
        .await
        .expect("a stream")
        .into_inner();
    let refused = renewals.message().await.expect_err("no user");
    assert_eq!(refused.message(), USER_EMPTY);
    let observing = election.observe(LeaderRequest { name: key() }).await;
    let refused = observing.expect("a stream").into_inner().message().await;
    assert_eq!(refused.expect_err("no user").message(), USER_EMPTY);
    assert!(
        auth.auth_status(AuthStatusRequest {})
            .await
            .expect("it")
            .into_inner()
            .enabled
    );
    started.stop().await;
    Ok(())
}

/// In etcd a login is an entry of the log, and a restarted member has forgotten it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_valid_at_every_member_and_after_a_restart() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = AuthCluster::start(dir.path(), 3).await?;
    let token = cluster.log_in(0, "alice", "pw").await?;
    for channel in &cluster.channels {
        let mut kv = KvClient::new(channel.clone());
        kv.put(with_token(&token, put("a"))).await?;
        let denied = kv
            .put(with_token(&token, put("c")))
            .await
            .expect_err("not hers");
        assert_eq!(denied.code(), Code::PermissionDenied);
    }
    let config = cluster.stores[0].config().clone();
    let serving = cluster.serving.remove(0);
    serving.abort();
    let _ = serving.await;
    cluster.stores.remove(0).shutdown().await;
    let again = open_one(config).await?;
    again.ready().await;
    let (channel, serving) = serve(again.clone()).await?;
    let mut kv = KvClient::new(channel);
    kv.put(with_token(&token, put("b"))).await?;
    // With another password, old tokens end.
    let root = cluster.log_in(1, "root", "pw").await?;
    let mut auth = AuthClient::new(cluster.channels[1].clone());
    let change = AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "other".into(),
        ..Default::default()
    };
    auth.user_change_password(with_token(&root, change)).await?;
    let refused = kv
        .put(with_token(&token, put("b")))
        .await
        .expect_err("it is old");
    assert_eq!(refused.code(), Code::Unauthenticated);
    serving.abort();
    again.shutdown().await;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedding_program_is_not_checked_and_acts_as_any_caller() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let cluster = AuthCluster::start(dir.path(), 1).await?;
    let store = &cluster.stores[0];
    store.put(put("z")).await?;
    let id = store
        .lease_grant(LeaseGrantRequest { id: 0, ttl: 100 })
        .await?
        .id;
    let alice = store.acting_as(user("alice"));
    alice
        .put(PutRequest {
            lease: id,
            ..put("a")
        })
        .await?;
    let denied = Error::State(StateError::PermissionDenied);
    assert_eq!(alice.put(put("z")).await, Err(denied.clone()));
    assert_eq!(alice.get("z").await, Err(denied.clone()));
    assert_eq!(alice.hash_kv(0).await.map(drop), Err(denied.clone()));
    store
        .put(PutRequest {
            lease: id,
            ..put("z")
        })
        .await?;
    let revoke = LeaseRevokeRequest { id };
    assert_eq!(alice.lease_revoke(revoke).await, Err(denied.clone()));
    let times = LeaseTimeToLiveRequest { id, keys: true };
    assert_eq!(alice.lease_time_to_live(times).await, Err(denied.clone()));
    assert_eq!(alice.leases(), Err(denied));
    let nobody = store.acting_as(Caller::Anonymous);
    let no_user = Error::State(StateError::UserEmpty);
    assert_eq!(nobody.get("a").await, Err(no_user));
    cluster.stop().await;
    Ok(())
}

/// The NOSPACE alarm is the member's own, and not the request of the user that found no room.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_finds_no_room_does_not_need_the_right_to_raise_alarms() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        quota_bytes: 1,
        ..Config::single("alone", dir.path())
    };
    let store = open_one(config).await?;
    store.ready().await;
    let change = |op| keelson_proto::internal::AuthChange { op: Some(op) };
    use keelson_proto::internal::auth_change::Op;
    let added = |name: &str| AuthUserAddRequest {
        name: name.into(),
        ..Default::default()
    };
    for name in ["root", "operator"] {
        let op = Op::UserAdd(added(name));
        store.auth_change(change(op)).await?;
    }
    let grant = AuthUserGrantRoleRequest {
        user: "root".into(),
        role: "root".into(),
    };
    store.auth_change(change(Op::UserGrantRole(grant))).await?;
    let enable = keelson_proto::internal::AuthEnable { secret: "s".into() };
    store.auth_change(change(Op::Enable(enable))).await?;
    // Before the room is looked at: a user without rights raises no alarm.
    for refused in ["operator", "absent"] {
        let put = store.acting_as(user(refused)).put(put("a")).await.map(drop);
        assert_eq!(put, Err(Error::State(StateError::PermissionDenied)));
    }
    assert!(
        store
            .alarm(AlarmRequest::default())
            .await?
            .alarms
            .is_empty()
    );
    let full = store.acting_as(user("root")).put(put("a")).await;
    assert_eq!(full.map(drop), Err(Error::State(StateError::NoSpace)));
    let alarms = store.alarm(AlarmRequest::default()).await?.alarms;
    assert_eq!(alarms.len(), 1);
    tokio::time::timeout(Duration::from_secs(20), store.shutdown()).await?;
    Ok(())
}
