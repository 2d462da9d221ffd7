//! What a member tells its cluster once it is up: its name and client URLs, and, as the leader, the
//! version that the cluster speaks.

use std::time::Duration;

use keelson_core::node::Role;
use keelson_proto::internal::{ClusterVersion, MemberAttributes, command};

use crate::Store;

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(200);

/// Publishes this member's attributes, however long it takes.
pub(crate) async fn publish(store: Store) {
    let config = store.config();
    let attributes = MemberAttributes {
        member_id: store.member_id().0,
        name: config.name.clone(),
        client_urls: config
            .advertise_client_urls
            .iter()
            .map(|url| url.to_string())
            .collect(),
    };
    let same = |member: &keelson_proto::etcdserverpb::Member| {
        member.name == attributes.name && member.client_ur_ls == attributes.client_urls
    };
    let known = store.inner.shared.view().member(store.member_id().0);
    if known.as_ref().is_some_and(same) {
        // The cluster knows already; one read shows that it is there.
        while store.read_index().await.is_err() && !store.is_stopping() {
            tokio::time::sleep(RETRY).await;
        }
        return store.note_published();
    }
    while !store.is_stopping() {
        let op = command::Op::MemberAttributes(attributes.clone());
        match store.propose(op).await {
            Ok(_) => return store.note_published(),
            Err(error) => tracing::warn!(%error, "could not publish this member yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Sets the cluster's version if nobody has: the leader's part.
pub(crate) async fn agree_on_version(store: Store) {
    let mut standing = store.inner.shared.watch_standing();
    let known = || store.inner.shared.view().cluster_version();
    let is_first = known().is_none();
    while store.inner.shared.view().cluster_version().is_none() && !store.is_stopping() {
        if standing.borrow_and_update().role == Role::Leader {
            let version = crate::version::CLUSTER.to_owned();
            let op = command::Op::ClusterVersion(ClusterVersion { version });
            if let Err(error) = store.propose(op).await {
                tracing::debug!(%error, "could not set the cluster version yet");
            }
        }
        let _ = tokio::time::timeout(RETRY, standing.changed()).await;
    }
    if let Some(version) = known().filter(|_| is_first) {
        let version = crate::version::major_minor(&version);
        tracing::info!("set the initial cluster version to {version}");
    }
}
