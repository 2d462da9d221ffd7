//! The members' client URLs, and the choice among them.
//!
//! One is preferred: the nearest healthy one. It is kept until another is clearly nearer, so that
//! connections are reused. Among those that are about as near, the choice is random, so that the
//! proxies of a cluster spread over its members. Writes go to the leader while it is known.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keelson_port::ClientTls;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::address::Address;
use crate::policy::endpoint::{Endpoint, Health};
use crate::policy::leader::Leader;
use crate::policy::outage::Outage;
use keelson_port::LogThrottle;

/// Latencies that differ by less count as equal.
const NEAR: Duration = Duration::from_micros(500);

/// All endpoints. Written when the member list changes, read for every request.
pub(crate) struct Endpoints {
    chosen: RwLock<Chosen>,
    pub(crate) leader: Leader,
    /// A member has become usable, or holding requests has become hopeless.
    available: Notify,
    /// This proxy's own listeners.
    own: Vec<SocketAddr>,
    /// For messages that no member is usable.
    none_usable: Mutex<LogThrottle>,
    outage: Outage,
    /// For messages about client URLs that cannot be used.
    invalid: Mutex<LogThrottle>,
    /// For https URLs.
    tls: ClientTls,
}

#[derive(Default)]
struct Chosen {
    all: Vec<Arc<Endpoint>>,
    preferred: Option<Arc<Endpoint>>,
}

impl Endpoints {
    pub(crate) fn new(own: Vec<SocketAddr>, tls: ClientTls) -> Endpoints {
        Endpoints {
            chosen: RwLock::default(),
            leader: Leader::default(),
            available: Notify::new(),
            own,
            none_usable: Mutex::default(),
            outage: Outage::default(),
            invalid: Mutex::default(),
            tls,
        }
    }

    /// The member for a request: the leader, or the `nearest`. `None`: no member is usable.
    pub(crate) fn choose(&self, nearest: bool) -> Option<Arc<Endpoint>> {
        if !nearest && let Some(leader) = self.leader.get() {
            return Some(leader);
        }
        {
            let chosen = self.chosen.read();
            let preferred = chosen.preferred.as_ref();
            if let Some(preferred) = preferred.filter(|one| one.health() == Health::Healthy) {
                return Some(Arc::clone(preferred));
            }
        }
        let mut chosen = self.chosen.write();
        chosen.preferred = pick(&chosen.all);
        chosen.preferred.clone()
    }

    /// Returns when a member becomes usable, and after `pause` at the latest: a notification
    /// between the caller's look and this call is lost.
    pub(crate) async fn endpoint_available(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.available.notified()).await;
    }

    /// Changes the health of a member.
    pub(crate) fn set_health(&self, endpoint: &Endpoint, health: Health) {
        if !endpoint.set_health(health) {
            return;
        }
        if health != Health::Healthy {
            self.leads(endpoint, false);
        }
        if health.is_usable() {
            self.available.notify_waiters();
        }
        self.note_outage();
        self.log(endpoint);
    }

    /// No peer has answered with a member list, and no member is known.
    pub(crate) fn none_found(&self) {
        self.note_outage();
        self.available.notify_waiters();
    }

    fn note_outage(&self) {
        let reached = self.list().iter().any(|one| one.was_reached());
        self.outage.note(self.any(), reached, Instant::now());
    }

    /// The cluster had members in an earlier run of this proxy, or will have them.
    pub(crate) fn expect_members(&self) {
        self.outage.expect_members();
    }

    /// Whether holding a request for a member would be in vain.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.outage.is_hopeless(Instant::now())
    }

    /// Logs a member's health if it has changed, and whether any member is usable.
    pub(crate) fn log(&self, endpoint: &Endpoint) {
        if let Some(health) = endpoint.health_to_log() {
            log(endpoint, health);
        }
        let any = self.any();
        let mut none_usable = self.none_usable.lock();
        if !any && let Some(lasted) = none_usable.failing() {
            warn!(lasted_seconds = lasted.as_secs(), "no member is usable");
        }
        if any && let Some(lasted) = none_usable.recovered() {
            info!(
                lasted_seconds = lasted.as_secs(),
                "a member is usable again"
            );
        }
    }

    /// Records whether a member leads. When the leader is lost, the others get health checks.
    pub(crate) fn leads(&self, endpoint: &Endpoint, leads: bool) {
        if leads {
            let all = self.list();
            let known = all.iter().find(|one| std::ptr::eq(&***one, endpoint));
            known.into_iter().for_each(|known| self.leader.set(known));
        } else if self.leader.unset(endpoint) {
            let all = self.list();
            let others = all.iter().filter(|one| !std::ptr::eq(&***one, endpoint));
            others.for_each(|other| other.wake_health_check());
        }
    }

    /// Whether any member is usable.
    pub(crate) fn any(&self) -> bool {
        let all = &self.chosen.read().all;
        all.iter().any(|one| one.health().is_usable())
    }

    /// Prefers another member when it is clearly nearer.
    pub(crate) fn reconsider(&self) {
        let mut chosen = self.chosen.write();
        let near = near(&chosen.all);
        let kept = chosen.preferred.as_ref();
        if !kept.is_some_and(|kept| near.iter().any(|one| Arc::ptr_eq(one, kept))) {
            chosen.preferred = pick(&chosen.all);
        }
    }

    /// Sets the members' client URLs. Returns the new endpoints; the others keep their health.
    pub(crate) async fn update(&self, urls: &[String]) -> Vec<Arc<Endpoint>> {
        let added = self.replace(self.addresses(urls));
        for endpoint in &added {
            if endpoint.address.leads_to(&self.own).await {
                self.set_health(endpoint, Health::SelfLoop);
            }
        }
        self.note_outage();
        self.available.notify_waiters();
        added
    }

    fn addresses(&self, urls: &[String]) -> BTreeMap<String, Address> {
        let mut named = BTreeMap::new();
        let mut invalid = None;
        for url in urls {
            match Address::of(url, Some(&self.tls)) {
                Ok(address) => drop(named.insert(url.clone(), address)),
                Err(error) => invalid = Some(error),
            }
        }
        let mut throttle = self.invalid.lock();
        match invalid {
            None => drop(throttle.recovered()),
            Some(error) if throttle.failing().is_some() => {
                warn!(%error, "a member advertises a client URL that this proxy cannot use");
            }
            Some(_) => {}
        }
        named
    }

    fn replace(&self, mut named: BTreeMap<String, Address>) -> Vec<Arc<Endpoint>> {
        let mut chosen = self.chosen.write();
        let mut gone = vec![];
        chosen.all.retain(|one| {
            let stays = named.remove(&one.url).is_some();
            if !stays {
                gone.push(Arc::clone(one));
            }
            stays
        });
        let added: Vec<_> = named
            .into_iter()
            .map(|(url, address)| Arc::new(Endpoint::new(url, address)))
            .collect();
        chosen.all.extend(added.iter().cloned());
        let kept = chosen.preferred.take();
        chosen.preferred = kept.filter(|kept| !gone.iter().any(|one| Arc::ptr_eq(one, kept)));
        drop(chosen);
        for one in gone {
            self.set_health(&one, Health::Removed);
        }
        added
    }

    /// All endpoints.
    pub(crate) fn list(&self) -> Vec<Arc<Endpoint>> {
        self.chosen.read().all.clone()
    }
}

fn log(endpoint: &Endpoint, health: Health) {
    let endpoint = &endpoint.url;
    match health {
        Health::Healthy => info!(%endpoint, "member is healthy"),
        Health::Degraded => warn!(%endpoint, "member reports that it is not healthy"),
        Health::Down => warn!(%endpoint, "member does not answer"),
        Health::SelfLoop => warn!(
            %endpoint,
            "an advertised client URL leads back to this proxy; it is not used"
        ),
        Health::Removed => info!(%endpoint, "the URL is no longer a member's"),
    }
}

/// A random one of the healthy members that are about as near as the nearest; of the degraded ones
/// if none is healthy.
fn pick(all: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
    let mut near = near(all);
    if near.is_empty() {
        return None;
    }
    let chance = usize::try_from(random() % near.len() as u64).expect("less than a length");
    Some(near.swap_remove(chance))
}

fn near(all: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    for health in [Health::Healthy, Health::Degraded] {
        let health: Vec<_> = all.iter().filter(|one| one.health() == health).collect();
        let nearest = health.iter().filter_map(|one| one.latency()).min();
        let bound = nearest.map_or(Duration::MAX, |nearest| nearest * 2 + NEAR);
        let mut near = health;
        // A member that was not probed yet counts as near.
        near.retain(|one| one.latency().is_none_or(|latency| latency <= bound));
        if !near.is_empty() {
            return near.into_iter().cloned().collect();
        }
    }
    vec![]
}

/// A random number: good enough to spread load, and to distinguish proxies.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
