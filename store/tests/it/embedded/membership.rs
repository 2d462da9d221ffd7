//! Members that are added, promoted, removed and moved to other URLs.

use futures_util::future::join_all;
use keelson_core::MemberId;
use keelson_proto::etcdserverpb::*;
use keelson_store::{Config, Error, Store};

use super::{members, open, open_one, put};

pub(super) async fn shut_down(stores: &[Store]) {
    join_all(stores.iter().map(Store::shutdown)).await;
}

/// A member that never starts.
fn addition(port: u16, is_learner: bool) -> MemberAddRequest {
    MemberAddRequest {
        peer_ur_ls: vec![format!("http://127.0.0.1:{port}")],
        is_learner,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_could_cost_the_quorum_are_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members(dir.path(), 3)).await?;
    let learner = stores[0].member_add(addition(1, true)).await?;
    let learner = MemberId(learner.member.expect("the learner").id);
    let promoted = stores[1].member_promote(learner).await;
    assert_eq!(promoted.err(), Some(Error::LearnerNotReady));
    // Each addition alone is possible; a second one would leave three of five, a third one three of
    // six.
    let adding = (0..3).map(|at| stores[at].member_add(addition(10 + at as u16, false)));
    let mut refused: Vec<_> = join_all(adding).await;
    refused.retain(|added| added.is_err());
    assert_eq!(refused.len(), 2);
    for added in refused {
        assert_eq!(added.err(), Some(Error::Unhealthy));
    }
    stores[2].put(put("after", "all")).await?;
    let listed = stores[2].member_list(true).await?.members;
    assert_eq!(listed.len(), 5);
    shut_down(&stores).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_stays() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for strict_reconfig_check in [true, false] {
        let config = Config {
            strict_reconfig_check,
            ..Config::single("alone", dir.path().join(strict_reconfig_check.to_string()))
        };
        let stores = open(vec![config]).await?;
        let removed = stores[0].member_remove(stores[0].member_id()).await;
        assert_eq!(removed.err(), Some(Error::NotEnoughStartedMembers));
        stores[0].put(put("still", "there")).await?;
        shut_down(&stores).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn learners_are_limited_by_the_flag() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for (max_learners, at) in [(1, 1), (2, 11)] {
        let config = Config {
            max_learners,
            ..Config::single("alone", dir.path().join(max_learners.to_string()))
        };
        let stores = open(vec![config]).await?;
        for port in (at..).take(max_learners) {
            stores[0].member_add(addition(port, true)).await?;
        }
        let beyond = stores[0].member_add(addition(at + 5, true)).await;
        let text = beyond.err().map(|error| error.to_string());
        let expected = "etcdserver: too many learner members in cluster";
        assert_eq!(text.as_deref(), Some(expected));
        shut_down(&stores).await;
    }
    Ok(())
}

/// Alone it learns the term from no other member, and it showed term 0 until its first candidacy.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_member_shows_no_lower_term() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members(dir.path(), 3);
    let stores = open(configs.clone()).await?;
    for store in &stores {
        store.put(put("key", "value")).await?;
    }
    let term = |status: StatusResponse| status.header.map_or(0, |header| header.raft_term);
    let shown = term(stores[0].status());
    shut_down(&stores).await;
    drop(stores);
    let restarted = open_one(configs[0].clone()).await?;
    let status = restarted.status();
    assert!(
        0 < shown && shown <= term(status.clone()),
        "{shown}: {status:?}"
    );
    assert!(shown <= status.raft_term, "{shown}: {status:?}");
    restarted.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_too_many_urls_is_too_large() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        max_request_bytes: 1_024,
        ..Config::single("alone", dir.path())
    };
    let stores = open(vec![config]).await?;
    let large = MemberAddRequest {
        peer_ur_ls: (1..100)
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect(),
        is_learner: true,
    };
    let refused = stores[0].member_add(large).await;
    assert_eq!(refused.err(), Some(Error::RequestTooLarge));
    shut_down(&stores).await;
    Ok(())
}
