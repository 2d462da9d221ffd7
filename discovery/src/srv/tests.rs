//! Queries of SRV records and their order, with a resolver that answers from maps.

use std::collections::BTreeMap;

use super::*;

/// Records and addresses by name; lookups of other names fail.
#[derive(Default)]
struct Fake {
    srv: BTreeMap<&'static str, Vec<(&'static str, u16)>>,
    hosts: BTreeMap<&'static str, &'static str>,
}

impl Resolver for Fake {
    async fn srv(&self, name: &str) -> Result<Vec<Target>, LookupError> {
        let records = self.srv.get(name).cloned().unwrap_or_default();
        let target = |(place, (host, port)): (u16, (&str, u16))| Target {
            host: host.to_owned(),
            port,
            priority: place,
            weight: 0,
        };
        Ok((0..).zip(records).map(target).collect())
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
        let address = self.hosts.get(host).copied().unwrap_or(host);
        let reason = "no such host".to_owned();
        let name = host.to_owned();
        let address = address.parse().map_err(|_| LookupError { name, reason })?;
        Ok(vec![SocketAddr::new(address, port)])
    }
}

fn three() -> Fake {
    Fake {
        srv: BTreeMap::from([
            (
                "_etcd-server._tcp.example.com.",
                vec![
                    ("a.example.com.", 2380),
                    ("b.example.com.", 2380),
                    ("c.example.com", 2380),
                ],
            ),
            (
                "_etcd-server-x._tcp.example.com.",
                vec![("b.example.com.", 7001)],
            ),
            (
                "_etcd-client-ssl._tcp.example.com.",
                vec![("a.example.com.", 2379)],
            ),
            (
                "_etcd-client._tcp.example.com.",
                vec![("b.example.com.", 2379)],
            ),
        ]),
        hosts: BTreeMap::from([
            ("a.example.com", "10.0.0.1"),
            ("b.example.com", "10.0.0.2"),
            ("c.example.com", "10.0.0.3"),
        ]),
    }
}

fn service(name: &str) -> SrvQuery {
    SrvQuery {
        domain: "example.com".to_owned(),
        name: name.to_owned(),
    }
}

fn urls(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

#[tokio::test]
async fn our_own_record_is_known_by_its_address() {
    let founded = cluster(&three(), &service(""), "me", &urls("http://10.0.0.2:2380")).await;
    let expected =
        "0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380";
    assert_eq!(founded.as_deref(), Ok(expected));
    let suffixed = cluster(&three(), &service("x"), "me", &urls("http://10.0.0.2:7001")).await;
    assert_eq!(suffixed.as_deref(), Ok("me=http://b.example.com:7001"));
}

#[tokio::test]
async fn who_is_not_listed_is_told_and_a_proxy_need_not_be() {
    for own in [
        "http://10.0.0.9:2380",
        "http://10.0.0.2:2381",
        "https://10.0.0.2:2380",
    ] {
        let error = cluster(&three(), &service(""), "me", &urls(own)).await;
        let error = error.expect_err(own).to_string();
        let start = "cannot find local etcd member \"me\" in SRV records";
        assert!(error.starts_with(start), "{error}");
    }
    let founders = cluster_of(&three(), &service("")).await.expect("three");
    assert_eq!(founders.split(',').count(), 3);
}

#[tokio::test]
async fn an_unknown_founder_is_no_smaller_cluster() {
    let mut dns = three();
    dns.hosts.remove("c.example.com");
    let error = cluster(&dns, &service(""), "me", &urls("http://10.0.0.2:2380")).await;
    assert!(matches!(error, Err(SrvError::Unresolved(_))), "{error:?}");
}

#[tokio::test]
async fn both_schemes_are_used_and_none_is_an_error() {
    let members = clients(&three(), &service("")).await.expect("two");
    assert_eq!(
        members,
        ["https://a.example.com:2379", "http://b.example.com:2379"]
    );
    let error = clients(&three(), &service("y"))
        .await
        .expect_err("none")
        .to_string();
    let start = "error querying DNS SRV records for _etcd-client-ssl-y and _etcd-client-y";
    assert!(error.starts_with(start), "{error}");
}
