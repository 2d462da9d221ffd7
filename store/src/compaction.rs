//! Carries out automatic compaction, on which the core's compactor decides.

use std::time::Duration;

use keelson_core::Millis;
use keelson_core::member::{AutoCompaction, Compactor};
use keelson_core::node::Role;
use keelson_proto::etcdserverpb::CompactionRequest;
use tokio::time::Instant;

use crate::{Error, StateError, Store};

/// Compacts while this member is the leader, until it stops, if that is configured.
pub(crate) async fn run(store: Store) {
    let Some(rule) = store.config().auto_compaction else {
        return;
    };
    let began = Instant::now();
    let now = || Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut stopping = store.watch_stopping();
    let mut compactor = Compactor::new(rule, now(), store.view().revision());
    while !store.is_stopping() {
        let wait = compactor.due().0.saturating_sub(now().0);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let leads = store.inner.shared.soft_state().role == Role::Leader;
        let Some(revision) = compactor.step(now(), store.view().revision(), leads) else {
            continue;
        };
        let of = match rule {
            AutoCompaction::Periodic(_) => "periodic",
            AutoCompaction::Revision(_) => "revision",
        };
        tracing::info!(revision, "starting auto {of} compaction");
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        match store.compact(request).await {
            Ok(_) | Err(Error::State(StateError::Compacted)) => {
                compactor.compacted(now(), revision);
                tracing::info!(revision, "completed auto {of} compaction");
            }
            Err(error) => tracing::warn!(revision, %error, "failed auto {of} compaction"),
        }
    }
}
