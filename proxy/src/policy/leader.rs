//! The endpoint whose member leads. A write sent to another member is forwarded to it, one hop
//! more.
//!
//! A member is the authority on itself only, and only while it is healthy: a leader that has lost
//! its majority is not. No request waits for the leader to be found.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tokio::time::Instant;

use crate::http1::fetch;
use crate::policy::endpoint::{Endpoint, Health};

/// Each member answers this path from its own state and without a password. `/v2/members/leader`
/// would not do: its URLs may differ from those of this proxy's endpoints.
const PATH: &str = "/v2/stats/self";

/// The time in which members are probed more often after the leader is lost. Members that cannot
/// elect one are not loaded with more probes than that.
const SEARCH_TIME: Duration = Duration::from_secs(60);

/// The endpoint whose member leads, if it is known.
#[derive(Default)]
pub(crate) struct Leader(RwLock<LeaderState>);

#[derive(Default)]
struct LeaderState {
    endpoint: Option<Arc<Endpoint>>,
    /// When the last leader was lost; `None`: there is a leader, or never was one.
    lost: Option<Instant>,
}

#[derive(Deserialize)]
struct SelfStats {
    state: String,
}

impl Leader {
    /// `None`: the leader is unknown or not healthy.
    pub(crate) fn get(&self) -> Option<Arc<Endpoint>> {
        let state = self.0.read();
        let leader = state.endpoint.as_ref();
        leader
            .filter(|leader| leader.health() == Health::Healthy)
            .cloned()
    }

    /// The member reports that it leads. The latest report counts.
    pub(crate) fn set(&self, endpoint: &Arc<Endpoint>) {
        let mut state = self.0.write();
        state.endpoint = Some(Arc::clone(endpoint));
        state.lost = None;
    }

    /// The member does not lead, or is not healthy. Returns whether it was the leader here.
    pub(crate) fn unset(&self, endpoint: &Endpoint) -> bool {
        let is = |state: &LeaderState| {
            let leader = state.endpoint.as_deref();
            leader.is_some_and(|leader| std::ptr::eq(leader, endpoint))
        };
        // Mostly it is not, and then no request has to wait for the lock.
        if !is(&self.0.read()) {
            return false;
        }
        let mut state = self.0.write();
        let was = is(&state);
        if was {
            state.endpoint = None;
            state.lost = Some(Instant::now());
        }
        was
    }

    /// Whether the leader was lost a short time ago and has no successor yet.
    pub(crate) fn is_sought(&self) -> bool {
        let lost = self.0.read().lost;
        lost.is_some_and(|lost| lost.elapsed() < SEARCH_TIME)
    }
}

/// Whether the member reports that it leads. An error is mostly a member without this path.
pub(crate) async fn fetch_is_leader(
    endpoint: &Endpoint,
    dial_timeout: Duration,
) -> io::Result<bool> {
    let (_, body) = fetch::get(&endpoint.address, PATH, dial_timeout).await?;
    let stats: SelfStats = serde_json::from_slice(&body)?;
    Ok(stats.state == "StateLeader")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    fn endpoint(url: &str) -> Arc<Endpoint> {
        let address = Address::of_url(url).unwrap();
        Arc::new(Endpoint::new(url.to_owned(), address))
    }

    #[test]
    fn the_latest_report_counts_while_its_member_is_healthy() {
        let (one, two) = (
            endpoint("http://127.0.0.1:1"),
            endpoint("http://127.0.0.1:2"),
        );
        let leader = Leader::default();
        assert!(leader.get().is_none());
        assert!(!leader.unset(&one));
        assert!(!leader.is_sought());
        leader.set(&one);
        assert!(Arc::ptr_eq(&leader.get().unwrap(), &one));
        leader.set(&two);
        assert!(!leader.unset(&one));
        assert!(Arc::ptr_eq(&leader.get().unwrap(), &two));
        two.set_health(Health::Degraded);
        assert!(leader.get().is_none());
    }

    #[test]
    fn a_lost_leader_is_sought_for_a_while() {
        let one = endpoint("http://127.0.0.1:1");
        let leader = Leader::default();
        leader.set(&one);
        assert!(leader.unset(&one));
        assert!(leader.is_sought());
        leader.0.write().lost = Instant::now().checked_sub(SEARCH_TIME);
        assert!(!leader.is_sought());
        leader.set(&one);
        leader.unset(&one);
        assert!(leader.is_sought());
        leader.set(&one);
        assert!(!leader.is_sought());
    }

    #[test]
    fn stats_are_read_as_etcd_writes_them() {
        let text = r#"{"name":"b","id":"495007e8c1cdd66e","state":"StateLeader","startTime":
            "2026-11-26T01:30:34.3Z","leaderInfo":{"leader":"495007e8c1cdd66e","uptime":"1.7s"}}"#;
        let stats: SelfStats = serde_json::from_str(text).unwrap();
        assert_eq!(stats.state, "StateLeader");
    }
}
