//! Hosts that boot with one discovery URL.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_discovery::{DiscoveryError, Options, Outcome, Registration, RetryPolicy, join};
use tokio::task::JoinSet;

use crate::etcd::SOON;

/// Short timeouts, for tests.
pub(crate) fn options() -> Options {
    Options {
        request_timeout: Duration::from_secs(3),
        retry: RetryPolicy {
            first: Duration::from_millis(50),
            cap: Duration::from_millis(400),
            attempts_max: 100,
        },
        ..Options::default()
    }
}

/// The host with this number.
pub(crate) fn host(number: usize, url: &str) -> Registration {
    let peer_url = format!("http://10.0.0.{number}:2380");
    Registration::new(&format!("host{number}"), &[peer_url], url)
}

/// The outcomes of hosts that start at once, each after its own delay.
pub(crate) async fn boot(
    url: &str,
    delays: impl IntoIterator<Item = (usize, Duration)>,
) -> Result<Vec<(usize, Outcome)>> {
    let mut booting = JoinSet::new();
    for (number, delay) in delays {
        let url = url.to_owned();
        booting.spawn(async move {
            tokio::time::sleep(delay).await;
            let me = host(number, &url);
            join(&url, &me, &options(), None)
                .await
                .map(|outcome| (number, outcome))
        });
    }
    let mut outcomes = Vec::new();
    while let Some(joined) = tokio::time::timeout(SOON, booting.join_next()).await? {
        outcomes.push(joined??);
    }
    Ok(outcomes)
}

/// Checks that exactly `size` are members, that all agree on the members, and that all others got
/// the same list.
pub(crate) fn check(outcomes: &[(usize, Outcome)], size: usize) -> Result<BTreeSet<usize>> {
    let mut members = BTreeSet::new();
    let mut clusters = BTreeSet::new();
    for (number, outcome) in outcomes {
        let (Outcome::Member {
            initial_cluster, ..
        }
        | Outcome::Full {
            initial_cluster, ..
        }) = outcome;
        clusters.insert(initial_cluster.clone());
        if matches!(outcome, Outcome::Member { .. }) {
            members.insert(*number);
        }
    }
    ensure!(clusters.len() == 1, "no agreement: {clusters:?}");
    ensure!(
        members.len() == size,
        "{} members: {outcomes:?}",
        members.len()
    );
    let cluster = clusters.first().context("nobody")?;
    ensure!(cluster.split(',').count() == size, "{cluster}");
    for number in &members {
        let entry = format!("host{number}=http://10.0.0.{number}:2380");
        ensure!(cluster.contains(&entry), "{entry} is not in {cluster}");
    }
    Ok(members)
}

/// The error of a host that cannot join.
pub(crate) async fn refusal(url: &str, me: &Registration, options: &Options) -> DiscoveryError {
    let joining = tokio::time::timeout(SOON, join(url, me, options, None));
    joining
        .await
        .expect("an answer in time")
        .expect_err("a refusal")
}
