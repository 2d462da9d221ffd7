//! Membership changes and snapshots while members are down, moved or stopped.

use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::*;
use keelson_tests::chaos::members::{UNHEALTHY, id_of, refused};
use keelson_tests::proc::member::Member as Process;

use super::*;

/// A leader's log line about a peer whose process is gone.
pub(super) const GONE: &str = "cannot reach peer";
/// A member's log line when a snapshot begins to arrive.
pub(super) const ARRIVING: &str = "receiving a snapshot";

/// Bytes of one value.
const VALUE_BYTES: usize = 256 << 10;
/// More values than the 128 MiB that a leader may keep of its log: it must truncate the log,
/// however late its engine is, and a member that has none of them needs a snapshot.
const BEYOND_THE_LOG: usize = (144 << 20) / VALUE_BYTES;

/// Waits until the member's log contains `text` at or after the byte `from`.
pub(super) async fn logged(member: &mut Process, text: &str, from: usize) -> Result<()> {
    let at = Instant::now();
    while !member.log()[from..].contains(text) {
        member.alive()?;
        ensure!(at.elapsed() < LIMIT, "no {text:?}\n{}", member.log_tail());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

#[tokio::test]
async fn changes_with_a_member_down_and_moves_under_writes_cost_nothing() -> Result<()> {
    if binary::ours()?.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let mut cluster = start(3).await?;
    let leader = cluster.leader().await?;
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let urls = cluster.endpoints();
    let mut ids = Vec::new();
    for url in &urls {
        ids.push(id_of(url).await?);
    }
    let fleet = Fleet::start(
        &[urls[leader].clone(), urls[other].clone()],
        CLIENTS,
        "move/",
    );
    fleet.progress(200, LIMIT).await?;
    let mut members = ClusterClient::new(client::lazy(&urls[leader]));
    for (member, id) in cluster.members.iter().zip(&ids) {
        let request = MemberUpdateRequest {
            id: *id,
            peer_ur_ls: vec![member.peer_url.replace("127.0.0.1", "localhost")],
        };
        members.member_update(request).await?;
        fleet.progress(200, LIMIT).await?;
    }

    let before = cluster.members[leader].log().len();
    cluster.kill(dead);
    logged(&mut cluster.members[leader], GONE, before).await?;
    for is_learner in [false, true] {
        let request = MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()],
            is_learner,
        };
        refused(members.member_add(request).await, UNHEALTHY)?;
    }
    let request = MemberRemoveRequest { id: ids[other] };
    refused(members.member_remove(request).await, UNHEALTHY)?;
    fleet.progress(200, LIMIT).await?;
    members
        .member_remove(MemberRemoveRequest { id: ids[dead] })
        .await?;
    fleet.progress(200, LIMIT).await?;
    let ledger = fleet.stop().await;
    cluster.members.remove(dead);
    let verdict = verify::verify(&cluster, &ledger, "move/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}

/// The sender's process is stopped and its sockets stay open. The receiver is needed for the
/// quorum, so that the cluster makes no progress until it has a snapshot from the next leader.
#[tokio::test]
async fn a_leader_that_stops_while_it_sends_a_snapshot_is_replaced_as_its_sender() -> Result<()> {
    if binary::ours()?.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let plan = Plan::new(&binary::ours()?, 3).cut_early();
    let mut cluster = Cluster::start(&plan).await?;
    let leader = cluster.leader().await?;
    let (lagging, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(lagging);
    let mut kv = client::kv(&cluster.members[leader].client_url).await?;
    let value = bytes::Bytes::from(vec![b'x'; VALUE_BYTES]);
    for number in 0..BEYOND_THE_LOG {
        let request = PutRequest {
            key: format!("large/{number}").into(),
            value: value.clone(),
            ..Default::default()
        };
        kv.put(request).await?;
    }
    let before = cluster.members[lagging].log().len();
    cluster.members[lagging].start()?;
    logged(&mut cluster.members[lagging], ARRIVING, before).await?;
    cluster.members[leader].pause()?;

    let url = &cluster.members[other].client_url;
    let fleet = Fleet::start(std::slice::from_ref(url), 4, "after/");
    fleet.progress(20, LIMIT).await?;
    cluster.members[leader].resume()?;
    let ledger = fleet.stop().await;
    cluster.wait_ready(LIMIT).await?;
    let verdict = verify::verify(&cluster, &ledger, "after/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}
