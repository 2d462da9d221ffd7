//! One cell: one operation on a running cluster, measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use keelson_tests::proc::cluster::Cluster;

use super::load::Share;
use super::plan::{Op, Plan};
use crate::measure::{Measure, measure};
use crate::tally::Window;

/// Runs the operation on the cluster through the endpoints, and measures the members.
///
/// # Errors
/// An endpoint does not accept, or a member ends by itself.
pub async fn run(
    plan: &Plan,
    op: Op,
    cluster: &mut Cluster,
    endpoints: &[String],
    next_key: &Arc<AtomicU64>,
) -> Result<Measure> {
    let window = Window::after(plan.warm_up(), plan.measured());
    let shape = plan.shape(op, endpoints.len());
    let loads = Share::cut(op, shape, endpoints, next_key)
        .into_iter()
        .map(|share| tokio::task::spawn_blocking(move || share.run(window)))
        .collect();
    let measure = measure(window, &cluster.pids(), loads).await?;
    for member in &mut cluster.members {
        member.alive()?;
    }
    Ok(measure)
}

/// Which cell: members, place of the operation in the plan, place of the server.
pub type Key = (usize, usize, usize);

/// All cells of a run.
pub type Cells = BTreeMap<Key, Measure>;
