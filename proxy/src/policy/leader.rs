//! Which endpoint's member leads: a write that another is given goes on to it, one hop more.
//!
//! A member is believed about itself only, and only while it is well, which a leader that lost its
//! cluster is not. Nobody waits for this to be known.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tokio::time::Instant;

use crate::http1::fetch;
use crate::policy::endpoint::{Endpoint, Health};

/// Any member answers it by itself, and without a password. Not `/v2/members/leader`: the URLs
/// there need not be those that this proxy was given.
const PATH: &str = "/v2/stats/self";

/// How long a lost leader's successor is looked for with haste: members that cannot elect one are
/// not asked the more for it.
const HASTE: Duration = Duration::from_secs(60);

/// The endpoint that leads, as far as it is known.
#[derive(Default)]
pub(crate) struct Leader(RwLock<State>);

#[derive(Default)]
struct State {
    endpoint: Option<Arc<Endpoint>>,
    /// Since when it is gone; `None`: there is one, or never was.
    lost: Option<Instant>,
}

#[derive(Deserialize)]
struct SelfStats {
    state: String,
}

impl Leader {
    /// `None`: nobody knows, or it cannot be asked.
    pub(crate) fn get(&self) -> Option<Arc<Endpoint>> {
        let state = self.0.read();
        let leader = state.endpoint.as_ref();
        leader
            .filter(|leader| leader.health() == Health::Healthy)
            .cloned()
    }

    /// It says that it leads. The latest to say so is right.
    pub(crate) fn is(&self, endpoint: &Arc<Endpoint>) {
        let mut state = self.0.write();
        state.endpoint = Some(Arc::clone(endpoint));
        state.lost = None;
    }

    /// It does not lead, or cannot. Returns whether it was believed to.
    pub(crate) fn is_not(&self, endpoint: &Endpoint) -> bool {
        let is = |state: &State| {
            let leader = state.endpoint.as_deref();
            leader.is_some_and(|leader| std::ptr::eq(leader, endpoint))
        };
        // Mostly it does not, and then no request is kept waiting.
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

    /// Whether it was lost lately, and nobody has followed.
    pub(crate) fn is_sought(&self) -> bool {
        let lost = self.0.read().lost;
        lost.is_some_and(|lost| lost.elapsed() < HASTE)
    }
}

/// Whether the member says that it leads. An error is a member that has no such path, mostly.
pub(crate) async fn ask(endpoint: &Endpoint, dial_timeout: Duration) -> io::Result<bool> {
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
    fn the_latest_to_say_so_leads_while_it_is_well() {
        let (one, two) = (
            endpoint("http://127.0.0.1:1"),
            endpoint("http://127.0.0.1:2"),
        );
        let leader = Leader::default();
        assert!(leader.get().is_none());
        assert!(!leader.is_not(&one));
        assert!(!leader.is_sought());
        leader.is(&one);
        assert!(Arc::ptr_eq(&leader.get().unwrap(), &one));
        leader.is(&two);
        assert!(!leader.is_not(&one));
        assert!(Arc::ptr_eq(&leader.get().unwrap(), &two));
        two.set_health(Health::Degraded);
        assert!(leader.get().is_none());
    }

    #[test]
    fn a_lost_leader_is_sought_for_a_while() {
        let one = endpoint("http://127.0.0.1:1");
        let leader = Leader::default();
        leader.is(&one);
        assert!(leader.is_not(&one));
        assert!(leader.is_sought());
        leader.0.write().lost = Instant::now().checked_sub(HASTE);
        assert!(!leader.is_sought());
        leader.is(&one);
        leader.is_not(&one);
        assert!(leader.is_sought());
        leader.is(&one);
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
