//! The members' client URLs, and which of them is asked.
//!
//! One is preferred: the nearest that is well, kept as long as no other is clearly nearer, so that
//! connections are used again. Among those that are about as near, chance decides, so that the
//! proxies of a cluster do not all ask the same member.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keelson_port::ClientTls;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::address::Address;
use crate::endpoint::{Endpoint, Standing};

/// Latencies that differ by less are the same.
const NEAR: Duration = Duration::from_micros(500);

/// All endpoints. Written when members come and go, read for every request.
pub(crate) struct Endpoints {
    chosen: RwLock<Chosen>,
    /// Something got better.
    better: Notify,
    /// This proxy's own listeners.
    own: Vec<SocketAddr>,
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
            better: Notify::new(),
            own,
            tls,
        }
    }

    /// The member to ask; `None` when there is none to be reached.
    pub(crate) fn choose(&self) -> Option<Arc<Endpoint>> {
        {
            let chosen = self.chosen.read();
            let preferred = chosen.preferred.as_ref();
            if let Some(preferred) = preferred.filter(|one| one.standing() == Standing::Well) {
                return Some(Arc::clone(preferred));
            }
        }
        let mut chosen = self.chosen.write();
        chosen.preferred = pick(&chosen.all);
        chosen.preferred.clone()
    }

    /// Returns when a member may be reached that could not be before, at the latest after `pause`:
    /// between a look and the wait something may have happened.
    pub(crate) async fn improved(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.better.notified()).await;
    }

    /// A member stands otherwise.
    pub(crate) fn stands(&self, endpoint: &Endpoint, standing: Standing) {
        if !endpoint.stands(standing) {
            return;
        }
        match standing {
            Standing::Well => info!(endpoint = %endpoint.url, "member is well"),
            Standing::Sick => warn!(endpoint = %endpoint.url, "member says it is not healthy"),
            Standing::Out => warn!(endpoint = %endpoint.url, "member does not answer"),
            Standing::Loop => warn!(
                endpoint = %endpoint.url,
                "an advertised client URL leads back to this proxy; it is not used"
            ),
            Standing::Gone => info!(endpoint = %endpoint.url, "no longer a member's"),
        }
        if matches!(standing, Standing::Well | Standing::Sick) {
            self.better.notify_waiters();
        }
    }

    /// Whether any member can be asked.
    pub(crate) fn any(&self) -> bool {
        let all = &self.chosen.read().all;
        all.iter()
            .any(|one| matches!(one.standing(), Standing::Well | Standing::Sick))
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
        let mut named = BTreeMap::new();
        for url in urls {
            match Address::of(url, Some(&self.tls)) {
                Ok(address) => drop(named.insert(url.clone(), address)),
                Err(error) => warn!(%error, "a member advertises a client URL that is of no use"),
            }
        }
        let added = self.replace(named);
        for endpoint in &added {
            if endpoint.address.leads_to(&self.own).await {
                self.stands(endpoint, Standing::Loop);
            }
        }
        self.better.notify_waiters();
        added
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
            self.stands(&one, Standing::Gone);
        }
        added
    }

    /// What the members advertise, and how they stand.
    pub(crate) fn list(&self) -> Vec<Arc<Endpoint>> {
        self.chosen.read().all.clone()
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
    for standing in [Standing::Well, Standing::Sick] {
        let standing: Vec<_> = all
            .iter()
            .filter(|one| one.standing() == standing)
            .collect();
        let nearest = standing.iter().filter_map(|one| one.latency()).min();
        let bound = nearest.map_or(Duration::MAX, |nearest| nearest * 2 + NEAR);
        let mut near = standing;
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
mod tests {
    use super::*;

    async fn endpoints(urls: &[&str]) -> Endpoints {
        let endpoints = Endpoints::new(
            vec![SocketAddr::from(([127, 0, 0, 1], 4))],
            ClientTls::default(),
        );
        update(&endpoints, urls).await;
        endpoints
    }

    async fn update(endpoints: &Endpoints, urls: &[&str]) -> Vec<Arc<Endpoint>> {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        endpoints.update(&urls).await
    }

    fn find(endpoints: &Endpoints, url: &str) -> Arc<Endpoint> {
        let all = endpoints.list();
        all.into_iter().find(|one| one.url == url).unwrap()
    }

    const ONE: &str = "http://127.0.0.1:1";
    const TWO: &str = "http://127.0.0.1:2";
    const THREE: &str = "http://127.0.0.1:3";
    const OWN: &str = "http://127.0.0.1:4";

    #[tokio::test]
    async fn the_choice_sticks_until_it_fails() {
        let endpoints = endpoints(&[ONE, TWO]).await;
        let first = endpoints.choose().unwrap();
        for _ in 0..50 {
            assert!(Arc::ptr_eq(&first, &endpoints.choose().unwrap()));
        }
        endpoints.stands(&first, Standing::Out);
        let second = endpoints.choose().unwrap();
        assert_ne!(first.url, second.url);
        endpoints.stands(&first, Standing::Well);
        assert_eq!(endpoints.choose().unwrap().url, second.url);
        endpoints.stands(&second, Standing::Sick);
        assert_eq!(endpoints.choose().unwrap().url, first.url);
        endpoints.stands(&first, Standing::Out);
        assert_eq!(endpoints.choose().unwrap().url, second.url);
        endpoints.stands(&second, Standing::Out);
        assert!(endpoints.choose().is_none());
        assert!(!endpoints.any());
    }

    #[tokio::test]
    async fn the_near_one_is_preferred_when_clearly_nearer() {
        let endpoints = endpoints(&[ONE, TWO]).await;
        find(&endpoints, ONE).answered_in(Duration::from_millis(9));
        find(&endpoints, TWO).answered_in(Duration::from_millis(1));
        endpoints.reconsider();
        assert_eq!(endpoints.choose().unwrap().url, TWO);
        for _ in 0..20 {
            find(&endpoints, ONE).answered_in(Duration::from_micros(800));
        }
        endpoints.reconsider();
        assert_eq!(endpoints.choose().unwrap().url, TWO);
    }

    #[tokio::test]
    async fn chance_spreads_equals() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let endpoints = endpoints(&[ONE, TWO, THREE]).await;
            seen.insert(endpoints.choose().unwrap().url.clone());
        }
        assert_eq!(seen.len(), 3);
    }

    #[tokio::test]
    async fn an_update_keeps_what_is_known() {
        let endpoints = endpoints(&[ONE, TWO]).await;
        let one = find(&endpoints, ONE);
        let two = find(&endpoints, TWO);
        endpoints.stands(&two, Standing::Out);
        let added = update(&endpoints, &[TWO, THREE, "ftp://127.0.0.1:9"]).await;
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].url, THREE);
        assert_eq!(one.standing(), Standing::Gone);
        assert!(!one.stands(Standing::Well));
        assert_eq!(find(&endpoints, TWO).standing(), Standing::Out);
        assert_eq!(endpoints.choose().unwrap().url, THREE);
    }

    #[tokio::test]
    async fn its_own_address_is_a_loop() {
        let endpoints = endpoints(&[OWN]).await;
        assert_eq!(find(&endpoints, OWN).standing(), Standing::Loop);
        assert!(endpoints.choose().is_none());
    }
}
