//! The members' client URLs, and which of them is asked.
//!
//! One is preferred: the nearest that is well, kept as long as no other is clearly nearer, so that
//! connections are used again. Among those that are about as near, chance decides, so that the
//! proxies of a cluster do not all ask the same member. Writes go to the leader while it is known.

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

/// Latencies that differ by less are the same.
const NEAR: Duration = Duration::from_micros(500);

/// All endpoints. Written when members come and go, read for every request.
pub(crate) struct Endpoints {
    chosen: RwLock<Chosen>,
    pub(crate) leader: Leader,
    /// Something got better.
    better: Notify,
    /// This proxy's own listeners.
    own: Vec<SocketAddr>,
    /// No member can be asked.
    away: Mutex<LogThrottle>,
    outage: Outage,
    /// A member has client URLs that lead nowhere.
    useless: Mutex<LogThrottle>,
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
            better: Notify::new(),
            own,
            away: Mutex::default(),
            outage: Outage::default(),
            useless: Mutex::default(),
            tls,
        }
    }

    /// The member to ask; `None` when there is none to be reached. Reads go to the nearest.
    pub(crate) fn choose(&self, read: bool) -> Option<Arc<Endpoint>> {
        if !read && let Some(leader) = self.leader.get() {
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

    /// Returns when a member may be reached that could not be before, at the latest after `pause`:
    /// between a look and the wait something may have happened.
    pub(crate) async fn endpoint_available(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.better.notified()).await;
    }

    /// A member stands otherwise.
    pub(crate) fn set_health(&self, endpoint: &Endpoint, health: Health) {
        if !endpoint.set_health(health) {
            return;
        }
        if health != Health::Healthy {
            self.leads(endpoint, false);
        }
        if matches!(health, Health::Healthy | Health::Degraded) {
            self.better.notify_waiters();
        }
        self.note_outage();
        self.tell(endpoint);
    }

    /// No peer has answered with a member list, and no member is known.
    pub(crate) fn none_found(&self) {
        self.note_outage();
        self.better.notify_waiters();
    }

    fn note_outage(&self) {
        let reached = self.list().iter().any(|one| one.was_reached());
        self.outage.note(self.any(), reached, Instant::now());
    }

    /// The cluster had members in an earlier life of this proxy, or will have them.
    pub(crate) fn expect_members(&self) {
        self.outage.expect_members();
    }

    /// Whether a request would be held for a member in vain.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.outage.is_hopeless(Instant::now())
    }

    /// Says what is new of a member, and whether any can be asked.
    pub(crate) fn tell(&self, endpoint: &Endpoint) {
        if let Some(health) = endpoint.news() {
            log(endpoint, health);
        }
        let any = self.any();
        let mut away = self.away.lock();
        if !any && let Some(lasted) = away.failing() {
            warn!(lasted_seconds = lasted.as_secs(), "no member can be asked");
        }
        if any && let Some(lasted) = away.recovered() {
            info!(
                lasted_seconds = lasted.as_secs(),
                "members can be asked again"
            );
        }
    }

    /// A member says whether it leads. When the leader is lost, the others are looked at.
    pub(crate) fn leads(&self, endpoint: &Endpoint, leads: bool) {
        if leads {
            let all = self.list();
            let known = all.iter().find(|one| std::ptr::eq(&***one, endpoint));
            known.into_iter().for_each(|known| self.leader.is(known));
        } else if self.leader.is_not(endpoint) {
            let all = self.list();
            let others = all.iter().filter(|one| !std::ptr::eq(&***one, endpoint));
            others.for_each(|other| other.wake_health_check());
        }
    }

    /// Whether any member can be asked.
    pub(crate) fn any(&self) -> bool {
        let all = &self.chosen.read().all;
        all.iter()
            .any(|one| matches!(one.health(), Health::Healthy | Health::Degraded))
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

    /// The members have these client URLs. Returns those that are new; what is known stays known.
    pub(crate) async fn update(&self, urls: &[String]) -> Vec<Arc<Endpoint>> {
        let added = self.replace(self.addresses(urls));
        for endpoint in &added {
            if endpoint.address.leads_to(&self.own).await {
                self.set_health(endpoint, Health::SelfLoop);
            }
        }
        self.note_outage();
        self.better.notify_waiters();
        added
    }

    fn addresses(&self, urls: &[String]) -> BTreeMap<String, Address> {
        let mut named = BTreeMap::new();
        let mut useless = None;
        for url in urls {
            match Address::of(url, Some(&self.tls)) {
                Ok(address) => drop(named.insert(url.clone(), address)),
                Err(error) => useless = Some(error),
            }
        }
        let mut episode = self.useless.lock();
        match useless {
            None => drop(episode.recovered()),
            Some(error) if episode.failing().is_some() => {
                warn!(%error, "a member advertises a client URL that is of no use");
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

    /// What the members advertise, and how they stand.
    pub(crate) fn list(&self) -> Vec<Arc<Endpoint>> {
        self.chosen.read().all.clone()
    }
}

fn log(endpoint: &Endpoint, health: Health) {
    let endpoint = &endpoint.url;
    match health {
        Health::Healthy => info!(%endpoint, "member is well"),
        Health::Degraded => warn!(%endpoint, "member says it is not healthy"),
        Health::Down => warn!(%endpoint, "member does not answer"),
        Health::SelfLoop => warn!(
            %endpoint,
            "an advertised client URL leads back to this proxy; it is not used"
        ),
        Health::Removed => info!(%endpoint, "no longer a member's"),
    }
}

/// One of those that are well and about as near as the nearest; of the sick when none is well.
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
        // Of whom nothing is known yet is not put off.
        near.retain(|one| one.latency().is_none_or(|latency| latency <= bound));
        if !near.is_empty() {
            return near.into_iter().cloned().collect();
        }
    }
    vec![]
}

/// Good enough to spread load, and to tell proxies from each other.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
