//! `--initial-cluster`: the founding members, and a founder's checks before it starts.

use super::url::{self, Url, UrlError};
use super::{Config, identity};
use keelson_core::{ClusterId, MemberId};

/// One founding member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// The id, computed from the URLs and the token.
    pub id: MemberId,
    /// The name in `--initial-cluster`.
    pub name: String,
    /// The peer URLs, sorted.
    pub peer_urls: Vec<Url>,
}

/// Why a cluster cannot be founded from the flags. Each text contains the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// `--initial-cluster` is empty.
    #[error(
        "initial cluster unset and no discovery URL found; list the members in --initial-cluster \
         as name=http://host:2380,..."
    )]
    Empty,
    /// This member's name is not in the list.
    #[error(
        "couldn't find local name \"{0}\" in the initial cluster configuration; --name must be \
         one of the names in --initial-cluster ({1})"
    )]
    NameMissing(String, String),
    /// A URL is listed twice.
    #[error("initial cluster {0} has duplicate url {1}; each member needs peer URLs of its own")]
    DuplicateUrl(String, Url),
    /// This member's name is listed with URLs that it does not advertise, because a name is used
    /// twice.
    #[error(
        "duplicate name \"{name}\" in --initial-cluster: {extra} is not among this member's \
         --initial-advertise-peer-urls={advertised}; give every member a name of its own, or \
         advertise every URL listed under this name"
    )]
    DuplicateName {
        /// The name.
        name: String,
        /// The URLs that are listed under the name but not advertised.
        extra: String,
        /// The advertised URLs.
        advertised: String,
    },
    /// The list has a URL for this member that it does not advertise.
    #[error(
        "--initial-cluster has {missing} but missing from \
         --initial-advertise-peer-urls={advertised}; make the two agree"
    )]
    NotAdvertised {
        /// `name=url`, comma separated.
        missing: String,
        /// The advertised URLs.
        advertised: String,
    },
    /// This member advertises a URL that is not in the list.
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={listed}; \
         make the two agree"
    )]
    NotListed {
        /// URLs, comma separated.
        missing: String,
        /// The list's entries of this member.
        listed: String,
    },
}

/// Parses `name=url,name=url,...`. A repeated name adds a URL to that member, as in etcd.
pub fn parse(text: &str) -> Result<Vec<(String, Url)>, UrlError> {
    let mut entries = Vec::new();
    for entry in text.split(',').filter(|entry| !entry.is_empty()) {
        let (name, url) = entry.split_once('=').unwrap_or((entry, ""));
        entries.push((name.trim().to_owned(), Url::parse(url)?));
    }
    Ok(entries)
}

/// The inverse of [`parse`].
pub fn format(entries: &[(String, Url)]) -> String {
    entries
        .iter()
        .map(|(name, url)| format!("{name}={url}"))
        .collect::<Vec<_>>()
        .join(",")
}

impl Config {
    /// The founding members, sorted by id.
    pub fn founders(&self) -> Vec<Founder> {
        let mut founders: Vec<Founder> = Vec::new();
        for (name, url) in &self.initial_cluster {
            match founders.iter_mut().find(|founder| founder.name == *name) {
                Some(founder) => founder.peer_urls.push(url.clone()),
                None => founders.push(Founder {
                    id: MemberId::NONE,
                    name: name.clone(),
                    peer_urls: vec![url.clone()],
                }),
            }
        }
        for founder in &mut founders {
            founder.peer_urls.sort();
            founder.id = identity::member_id(&founder.peer_urls, &self.initial_cluster_token, None);
        }
        founders.sort_by_key(|founder| founder.id);
        founders
    }

    /// This member's id when it founds the cluster; `None` when its name is not in the list.
    pub fn founding_member_id(&self) -> Option<MemberId> {
        self.founders()
            .into_iter()
            .find(|founder| founder.name == self.name)
            .map(|f| f.id)
    }

    /// The id of the cluster of these founders.
    pub fn founding_cluster_id(&self) -> ClusterId {
        identity::cluster_id(self.founders().into_iter().map(|founder| founder.id))
    }

    /// etcd's checks before a member founds or joins a cluster. They are skipped for a member
    /// with a log, which ignores `--initial-*`.
    ///
    /// `same` decides whether two different URLs resolve to one address (`localhost` and
    /// `127.0.0.1`). It is a parameter because it may resolve names, which is IO.
    pub fn verify_bootstrap(
        &self,
        same: impl Fn(&Url, &Url) -> bool,
    ) -> Result<(), BootstrapError> {
        if self.initial_cluster.is_empty() {
            return Err(BootstrapError::Empty);
        }
        self.verify_no_url_twice()?;
        let own: Vec<&Url> = self
            .initial_cluster
            .iter()
            .filter(|(name, _)| *name == self.name)
            .map(|(_, u)| u)
            .collect();
        if own.is_empty() {
            let names: Vec<&str> = self
                .initial_cluster
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            return Err(BootstrapError::NameMissing(
                self.name.clone(),
                names.join(", "),
            ));
        }
        self.verify_advertised(&own, same)
    }

    fn verify_no_url_twice(&self) -> Result<(), BootstrapError> {
        let mut seen = std::collections::BTreeSet::new();
        match self
            .initial_cluster
            .iter()
            .find(|(_, url)| !seen.insert(url))
        {
            None => Ok(()),
            Some((_, url)) => {
                let list = format(&self.initial_cluster);
                Err(BootstrapError::DuplicateUrl(list, url.clone()))
            }
        }
    }

    fn verify_advertised(
        &self,
        own: &[&Url],
        same: impl Fn(&Url, &Url) -> bool,
    ) -> Result<(), BootstrapError> {
        let advertised = &self.initial_advertise_peer_urls;
        let matches = |a: &Url, b: &Url| a == b || same(a, b);
        let extra: Vec<&Url> = own
            .iter()
            .copied()
            .filter(|o| !advertised.iter().any(|a| matches(a, o)))
            .collect();
        if !extra.is_empty() {
            return Err(self.not_advertised(own.len(), &extra));
        }
        let missing: Vec<Url> = advertised
            .iter()
            .filter(|a| !own.iter().any(|o| matches(a, o)))
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let listed: Vec<_> = own
            .iter()
            .map(|url| (self.name.clone(), (*url).clone()))
            .collect();
        Err(BootstrapError::NotListed {
            missing: url::join(&missing),
            listed: format(&listed),
        })
    }

    fn not_advertised(&self, listed: usize, extra: &[&Url]) -> BootstrapError {
        let advertised = url::join(&self.initial_advertise_peer_urls);
        let name = self.name.clone();
        let entries: Vec<_> = extra
            .iter()
            .map(|url| (name.clone(), (*url).clone()))
            .collect();
        if extra.len() < listed {
            return BootstrapError::DuplicateName {
                name,
                extra: format(&entries),
                advertised,
            };
        }
        BootstrapError::NotAdvertised {
            missing: format(&entries),
            advertised,
        }
    }

    /// Names of other members that are listed in `--initial-cluster` with URLs on different
    /// hosts. That is legal (one member with two networks), but usually a mistake. For a warning.
    pub fn names_with_several_hosts(&self) -> Vec<String> {
        let several = |founder: &Founder| {
            founder
                .peer_urls
                .iter()
                .any(|url| url.host() != founder.peer_urls[0].host())
        };
        let founders = self.founders();
        founders
            .into_iter()
            .filter(several)
            .map(|founder| founder.name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, advertised: &str, cluster: &str) -> Config {
        Config {
            initial_advertise_peer_urls: Url::parse_list(advertised).expect(advertised),
            initial_cluster: parse(cluster).expect(cluster),
            ..Config::single(name, "unused")
        }
    }

    #[track_caller]
    fn check(name: &str, advertised: &str, cluster: &str, expected: Option<&str>) {
        let localhost = |a: &Url, b: &Url| {
            let host = |url: &Url| url.host().replace("localhost", "127.0.0.1");
            host(a) == host(b) && a.port() == b.port()
        };
        let result = config(name, advertised, cluster).verify_bootstrap(localhost);
        match expected {
            None => assert_eq!(result, Ok(())),
            Some(text) => {
                let error = result.expect_err(text).to_string();
                assert!(error.contains(text), "{error}");
            }
        }
    }

    #[test]
    fn founders_agree_with_what_they_advertise() {
        check("a", "http://a:1", "a=http://a:1,b=http://b:1", None);
        check(
            "a",
            "http://a:1,http://a:2",
            "a=http://a:1,b=http://b:1,a=http://a:2",
            None,
        );
        check("a", "http://127.0.0.1:1", "a=http://localhost:1", None);
        check(
            "x",
            "http://a:1",
            "a=http://a:1",
            Some("couldn't find local name \"x\""),
        );
        check(
            "a",
            "http://a:2",
            "a=http://a:1",
            Some(
                "--initial-cluster has a=http://a:1 but missing from \
                 --initial-advertise-peer-urls=http://a:2",
            ),
        );
        check(
            "a",
            "http://a:1,http://a:2",
            "a=http://a:1",
            Some(
                "--initial-advertise-peer-urls has http://a:2 but missing from \
                 --initial-cluster=a=http://a:1",
            ),
        );
        check(
            "a",
            "http://a:1",
            "a=http://a:1,b=http://a:1",
            Some("has duplicate url http://a:1"),
        );
        check(
            "a",
            "http://a:1",
            "a=http://a:1,b=http://b:1,a=http://c:1",
            Some("duplicate name \"a\""),
        );
        check("a", "http://a:1", "", Some("initial cluster unset"));
    }

    #[test]
    fn entries_are_parsed_as_etcd_does() {
        let entries = parse("a=http://a:1,,b=http://b:1,a=http://a:2").expect("good");
        assert_eq!(format(&entries), "a=http://a:1,b=http://b:1,a=http://a:2");
        assert_eq!(
            parse("nourl").expect_err("no URL").to_string(),
            "URL scheme must be http, https, unix, or unixs: "
        );
        let founders =
            config("a", "http://a:1", "b=http://b:1,a=http://a:2,a=http://a:1").founders();
        assert_eq!(founders.len(), 2);
        let a = founders
            .iter()
            .find(|founder| founder.name == "a")
            .expect("a is a founder");
        assert_eq!(url::join(&a.peer_urls), "http://a:1,http://a:2");
    }

    #[test]
    fn several_hosts_under_one_name_are_noticed() {
        let suspicious = config("a", "http://a:1", "a=http://a:1,b=http://b:1,b=http://c:1");
        assert_eq!(suspicious.names_with_several_hosts(), ["b"]);
        let deis = config("a", "http://a:1", "a=http://a:2380,a=http://a:7001");
        assert!(deis.names_with_several_hosts().is_empty());
    }
}
