//! What a member proposes about itself after the start: its name, its client URLs and the
//! commands that its release understands. The leader also proposes the cluster version.

use std::future::Future;
use std::time::Duration;

use keelson_core::Index;
use keelson_core::node::Role;
use keelson_proto::internal::{ClusterVersion, MemberAttributes, command};

use tokio::sync::watch;

use crate::{Error, Store, version};

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(200);
/// The pause between two looks at the cluster version that is set.
const AGAIN: Duration = Duration::from_secs(1);

/// Publishes this member's attributes; repeats the proposal until it is applied.
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
        command_version: config.command_version,
    };
    let same = |member: &keelson_proto::etcdserverpb::Member| {
        member.name == attributes.name && member.client_ur_ls == attributes.client_urls
    };
    let me = store.member_id().0;
    let is_applied = || {
        let view = store.inner.shared.view();
        let understood = view.command_version_of(me) == attributes.command_version;
        understood && view.member(me).as_ref().is_some_and(same)
    };
    while !store.is_stopping() {
        if is_applied() {
            // A successful read shows that this member takes part in the cluster.
            if store.read_index().await.is_ok() {
                return store.note_published();
            }
        } else {
            let op = command::Op::MemberAttributes(attributes.clone());
            let applied = store.inner.shared.watch_applied();
            match proposed_or_applied(store.propose(op), is_applied, applied).await {
                Some(Ok(_)) => return store.note_published(),
                Some(Err(error)) => tracing::warn!(%error, "could not publish this member yet"),
                None => continue,
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Waits for the outcome of the proposal or, if the outcome is `None`, until the applied state has
/// its effect. A snapshot may contain the entry, and then no outcome arrives.
async fn proposed_or_applied<T>(
    proposing: impl Future<Output = Result<T, Error>>,
    is_applied: impl Fn() -> bool,
    mut applied: watch::Receiver<Index>,
) -> Option<Result<T, Error>> {
    let learning = async {
        while !is_applied() {
            if applied.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        outcome = proposing => Some(outcome),
        () = learning => None,
    }
}

/// Keeps the cluster version while this member leads, as etcd's monitor does. It proposes the first
/// one, and a higher one once all members are of a newer release and no downgrade is in progress.
pub(crate) async fn agree_on_version(store: Store) {
    let mut soft_state = store.inner.shared.watch_soft_state();
    let mut known = store.view().cluster_version();
    let mut is_ready = false;
    while !store.is_stopping() {
        let wanted = next_version(&store);
        if let Some(version) = wanted.clone()
            && soft_state.borrow_and_update().role == Role::Leader
        {
            let op = command::Op::ClusterVersion(ClusterVersion { version });
            if let Err(error) = store.propose(op).await {
                tracing::debug!(%error, "could not set the cluster version yet");
            }
        }
        log_change(&mut known, store.view().cluster_version());
        log_readiness(&mut is_ready, &store);
        let pause = if wanted.is_some() { RETRY } else { AGAIN };
        let _ = tokio::time::timeout(pause, soft_state.changed()).await;
    }
}

/// etcd's line, once the release before can start on this member's data.
fn log_readiness(was_ready: &mut bool, store: &Store) {
    let target = store.view().downgrade();
    let is_ready = target.is_some() && target == store.storage_version();
    if is_ready && !*was_ready {
        let version = target.unwrap_or_default();
        tracing::info!(
            "target-version" = version,
            "The server is ready to downgrade"
        );
    }
    *was_ready = is_ready;
}

/// The cluster version to propose, if it is to change.
fn next_version(store: &Store) -> Option<String> {
    let view = store.view();
    let Some(version) = view.cluster_version() else {
        return Some(version::cluster_of(store.config().command_version));
    };
    let newest = version::cluster_of(view.understood());
    let rises = view.downgrade().is_none() && version::is_below(&version, &newest);
    rises.then_some(newest)
}

/// etcd's lines.
fn log_change(known: &mut Option<String>, version: Option<String>) {
    let short = |version: &Option<String>| {
        let version = version.as_deref().unwrap_or_default();
        version::major_minor(version).to_owned()
    };
    match (&known, &version) {
        (None, Some(_)) => {
            tracing::info!("set the initial cluster version to {}", short(&version));
        }
        (Some(before), Some(after)) if before != after => {
            let (from, to) = (short(known), short(&version));
            tracing::info!("updated the cluster version from {from} to {to}");
        }
        _ => {}
    }
    *known = version;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A replaced member became ready only after 7 s: its own entry was in the snapshot it
    /// received.
    #[tokio::test]
    async fn what_a_snapshot_brings_need_not_be_answered() {
        let (applied, watching) = watch::channel(Index(0));
        let published = Cell::new(false);
        let never = std::future::pending::<Result<(), Error>>();
        let snapshot = async {
            tokio::task::yield_now().await;
            published.set(true);
            applied.send_replace(Index(9));
        };
        let waiting = proposed_or_applied(never, || published.get(), watching);
        let (outcome, ()) = tokio::join!(waiting, snapshot);
        assert_eq!(outcome, None);
    }
}
