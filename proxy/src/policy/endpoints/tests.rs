//! The choice of a member.

use super::*;

async fn endpoints(urls: &[&str]) -> Endpoints {
    let own = vec![SocketAddr::from(([127, 0, 0, 1], 4))];
    let endpoints = Endpoints::new(own, ClientTls::default());
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
    let first = endpoints.choose(true).unwrap();
    for _ in 0..50 {
        assert!(Arc::ptr_eq(&first, &endpoints.choose(true).unwrap()));
    }
    endpoints.set_health(&first, Health::Down);
    let second = endpoints.choose(true).unwrap();
    assert_ne!(first.url, second.url);
    endpoints.set_health(&first, Health::Healthy);
    assert_eq!(endpoints.choose(true).unwrap().url, second.url);
    endpoints.set_health(&second, Health::Degraded);
    assert_eq!(endpoints.choose(true).unwrap().url, first.url);
    endpoints.set_health(&first, Health::Down);
    assert_eq!(endpoints.choose(true).unwrap().url, second.url);
    endpoints.set_health(&second, Health::Down);
    assert!(endpoints.choose(true).is_none());
    assert!(!endpoints.any());
}

#[tokio::test]
async fn the_near_one_is_preferred_when_clearly_nearer() {
    let endpoints = endpoints(&[ONE, TWO]).await;
    find(&endpoints, ONE).answered_in(Duration::from_millis(9));
    find(&endpoints, TWO).answered_in(Duration::from_millis(1));
    endpoints.reconsider();
    assert_eq!(endpoints.choose(true).unwrap().url, TWO);
    for _ in 0..20 {
        find(&endpoints, ONE).answered_in(Duration::from_micros(800));
    }
    endpoints.reconsider();
    assert_eq!(endpoints.choose(true).unwrap().url, TWO);
}

#[tokio::test]
async fn writes_go_to_the_leader_while_it_is_healthy() {
    let endpoints = endpoints(&[ONE, TWO, THREE]).await;
    let near = endpoints.choose(true).unwrap();
    assert_eq!(endpoints.choose(false).unwrap().url, near.url);
    let mut others = endpoints.list();
    others.retain(|one| one.url != near.url);
    endpoints.leads(&others[0], true);
    assert_eq!(endpoints.choose(false).unwrap().url, others[0].url);
    assert_eq!(endpoints.choose(true).unwrap().url, near.url);
    endpoints.set_health(&others[0], Health::Degraded);
    assert_eq!(endpoints.choose(false).unwrap().url, near.url);
    // Its next report counts.
    endpoints.set_health(&others[0], Health::Healthy);
    assert_eq!(endpoints.choose(false).unwrap().url, near.url);
    endpoints.leads(&others[1], true);
    assert_eq!(endpoints.choose(false).unwrap().url, others[1].url);
    update(&endpoints, &[&near.url]).await;
    assert_eq!(endpoints.choose(false).unwrap().url, near.url);
}

#[tokio::test]
async fn equal_members_are_chosen_at_random() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let endpoints = endpoints(&[ONE, TWO, THREE]).await;
        seen.insert(endpoints.choose(true).unwrap().url.clone());
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn an_update_keeps_the_health_of_others() {
    let endpoints = endpoints(&[ONE, TWO]).await;
    let one = find(&endpoints, ONE);
    let two = find(&endpoints, TWO);
    endpoints.set_health(&two, Health::Down);
    let added = update(&endpoints, &[TWO, THREE, "ftp://127.0.0.1:9"]).await;
    assert_eq!(added.len(), 1);
    assert_eq!(added[0].url, THREE);
    assert_eq!(one.health(), Health::Removed);
    assert!(!one.set_health(Health::Healthy));
    assert_eq!(find(&endpoints, TWO).health(), Health::Down);
    assert_eq!(endpoints.choose(true).unwrap().url, THREE);
}

#[tokio::test]
async fn its_own_address_is_a_loop() {
    let endpoints = endpoints(&[OWN]).await;
    assert_eq!(find(&endpoints, OWN).health(), Health::SelfLoop);
    assert!(endpoints.choose(true).is_none());
}
