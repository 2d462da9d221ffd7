//! Who the members are: asked from any of them, on its peer port.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use keelson_port::ClientTls;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time;
use tracing::{debug, info, warn};

use crate::address::Address;
use crate::config::MembersFrom;
use crate::context::Context;
use crate::http1::fetch;
use crate::policy::health_check;
use crate::role::{ClusterFile, RoleError};
use keelson_port::LogThrottle;

/// Between two attempts while no member is known.
const EAGER: Duration = Duration::from_secs(1);

/// For a peer to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const CLUSTER_ID: &str = "x-etcd-cluster-id";

/// A member, as `/members` of a peer port tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    /// A decimal number here, unlike everywhere else; it tells members from other servers.
    #[serde(rename = "id")]
    _id: u64,
    #[serde(rename = "peerURLs", default)]
    pub(crate) peer_urls: Option<Vec<String>>,
    #[serde(rename = "clientURLs", default)]
    pub(crate) client_urls: Option<Vec<String>>,
}

/// Where members are asked for, in the order in which they are tried.
pub(crate) struct Peers {
    /// Those of the latest answer, or of the file.
    latest: Vec<String>,
    /// Those of the flags, when no other answers.
    first: Vec<String>,
    file: Option<ClusterFile>,
    /// For https URLs.
    tls: ClientTls,
    /// What the file has.
    kept: Vec<String>,
    /// What the first answer said; another cluster's members are not ours.
    cluster: Option<HeaderValue>,
    /// Those were met.
    strangers: LogThrottle,
}

/// Why the members are not known; the last peer's error.
enum Silence {
    /// A peer has answered: the cluster is about to start.
    Starting(io::Error),
    /// No peer has.
    Complete(io::Error),
}

/// An answer of a peer.
struct Answer {
    cluster: Option<HeaderValue>,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
}

impl Peers {
    /// The file goes before the flags: the cluster may have moved since they were written.
    pub(crate) fn new(
        first: Vec<String>,
        file: Option<ClusterFile>,
        tls: ClientTls,
    ) -> Result<Peers, RoleError> {
        let kept = match &file {
            Some(file) => file.load()?,
            None => None,
        };
        if let Some(kept) = &kept {
            info!(peer_urls = ?kept, "using the peer URLs of the last run");
        }
        let peers = Peers {
            latest: kept.clone().unwrap_or_else(|| first.clone()),
            kept: kept.unwrap_or_default(),
            first,
            file,
            tls,
            cluster: None,
            strangers: LogThrottle::default(),
        };
        Ok(peers)
    }

    /// Whether an earlier life of this proxy had members.
    pub(crate) fn are_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The client URLs of all members. While no peer answers with them, none is forgotten.
    async fn ask(&mut self, dial_timeout: Duration) -> Result<Vec<String>, Silence> {
        let mut last = io::Error::other("there are no peer URLs");
        let mut starting = false;
        for url in self.order() {
            let asking = ask(&url, &self.tls, dial_timeout);
            let answered = time::timeout(ANSWER_TIMEOUT, asking).await;
            match answered.unwrap_or_else(|late| Err(late.into())) {
                Ok(answer) if self.is_other_cluster(&answer) => {
                    if self.strangers.failing().is_some() {
                        warn!(peer = %url, "a peer URL leads to another cluster; it is not used");
                    }
                    last = io::Error::other("it is of another cluster");
                }
                // It has started, and the members have not published theirs yet.
                Ok(answer) if answer.client_urls.is_empty() => {
                    starting = true;
                    last = io::Error::other("it knows no client URL yet");
                }
                Ok(answer) => return Ok(self.learn(answer)),
                Err(error) => {
                    debug!(peer = %url, %error, "a peer does not tell the members");
                    last = error;
                }
            }
        }
        Err(match starting {
            true => Silence::Starting(last),
            false => Silence::Complete(last),
        })
    }

    fn order(&self) -> Vec<String> {
        let mut order = self.latest.clone();
        order.extend(
            self.first
                .iter()
                .filter(|url| !self.latest.contains(url))
                .cloned(),
        );
        order
    }

    fn is_other_cluster(&self, answer: &Answer) -> bool {
        match (&self.cluster, &answer.cluster) {
            (Some(known), Some(told)) => known != told,
            _ => false,
        }
    }

    fn learn(&mut self, answer: Answer) -> Vec<String> {
        if answer.cluster.is_some() {
            self.cluster = answer.cluster;
        }
        if !answer.peer_urls.is_empty() && self.kept != answer.peer_urls {
            self.latest = answer.peer_urls;
            self.save();
        }
        answer.client_urls
    }

    fn save(&mut self) {
        let Some(file) = &self.file else { return };
        match file.save(&self.latest) {
            Ok(()) => self.kept.clone_from(&self.latest),
            // A proxy with a full disk is still a proxy.
            Err(error) => warn!(%error, "cannot keep the peer URLs"),
        }
    }
}

/// The client URLs of all members, if anybody tells.
pub(crate) async fn ask_once(mut peers: Peers, dial_timeout: Duration) -> Option<Vec<String>> {
    peers.ask(dial_timeout).await.ok()
}

async fn ask(url: &str, tls: &ClientTls, dial_timeout: Duration) -> io::Result<Answer> {
    let address = Address::of(url, Some(tls)).map_err(io::Error::other)?;
    let (headers, body) = fetch::get(&address, "/members", dial_timeout).await?;
    let members: Vec<Member> = serde_json::from_slice(&body)?;
    let peer_urls: BTreeSet<_> = members
        .iter()
        .filter_map(|one| one.peer_urls.clone())
        .collect();
    let client_urls: BTreeSet<_> = members
        .iter()
        .filter_map(|one| one.client_urls.clone())
        .collect();
    Ok(Answer {
        cluster: headers.get(CLUSTER_ID).cloned(),
        peer_urls: peer_urls.into_iter().flatten().collect(),
        client_urls: client_urls.into_iter().flatten().collect(),
    })
}

/// Keeps the endpoints up to date, and somebody looking after each.
pub(crate) async fn keep(context: Arc<Context>, mut peers: Option<Peers>) {
    let mut found = false;
    let mut health_checks = JoinSet::new();
    let mut silence = LogThrottle::default();
    loop {
        let urls = match (&mut peers, &context.config.members) {
            (Some(peers), _) => peers.ask(context.config.dial_timeout).await,
            (None, MembersFrom::Clients(urls) | MembersFrom::Peers(urls)) => Ok(urls.clone()),
        };
        tell(&mut silence, &urls);
        match urls {
            Ok(urls) => {
                for endpoint in context.endpoints.update(&urls).await {
                    info!(endpoint = %endpoint.url, "a member's client URL");
                    health_checks.spawn(health_check::run(Arc::clone(&context), endpoint));
                }
                if !std::mem::replace(&mut found, true) {
                    announce(&urls);
                }
            }
            Err(Silence::Starting(_)) => {}
            Err(Silence::Complete(_)) => context.endpoints.none_found(),
        }
        // Those of members that are gone.
        while health_checks.try_join_next().is_some() {}
        let known = !context.endpoints.list().is_empty();
        time::sleep(if known {
            context.config.refresh_interval
        } else {
            EAGER
        })
        .await;
    }
}

/// etcd 2's line, which scripts look for.
fn announce(urls: &[String]) {
    info!(
        endpoints = ?urls,
        plain = %format_args!("proxy: endpoints found [{}]", quoted(urls)),
        "proxy: endpoints found"
    );
}

/// As Go's `%q` has a list.
fn quoted(urls: &[String]) -> String {
    let quoted: Vec<_> = urls.iter().map(|url| format!("{url:?}")).collect();
    quoted.join(" ")
}

/// Says when nobody tells who the members are, and when somebody does again.
fn tell(silence: &mut LogThrottle, urls: &Result<Vec<String>, Silence>) {
    match urls {
        Ok(_) => {
            if let Some(lasted) = silence.recovered() {
                let lasted_seconds = lasted.as_secs();
                info!(lasted_seconds, "a peer tells again who the members are");
            }
        }
        Err(Silence::Starting(error) | Silence::Complete(error)) => {
            if let Some(lasted) = silence.failing() {
                let text = "no peer tells who the members are; keeping what is known";
                warn!(%error, lasted_seconds = lasted.as_secs(), "{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cluster: &'static str, peer_url: &str) -> Answer {
        Answer {
            cluster: Some(HeaderValue::from_static(cluster)),
            peer_urls: vec![peer_url.to_owned()],
            client_urls: vec![],
        }
    }

    #[test]
    fn members_are_read_as_etcd_writes_them() {
        let text = r#"[{"id":13668033151171901709,"peerURLs":["http://127.0.0.1:23801"],
            "name":"default","clientURLs":["http://127.0.0.1:23791"]},
            {"id":1,"peerURLs":["http://127.0.0.1:1"],"name":""}]"#;
        let members: Vec<Member> = serde_json::from_str(text).unwrap();
        assert_eq!(
            members[0].client_urls.as_ref().unwrap()[0],
            "http://127.0.0.1:23791"
        );
        assert_eq!(members[1].client_urls, None);
        assert!(serde_json::from_str::<Vec<Member>>(r#"[{"id":"1f"}]"#).is_err());
    }

    #[test]
    fn what_is_learnt_is_kept_and_flags_come_last() {
        let dir = tempfile::tempdir().unwrap();
        let flags = || vec!["http://flag:1".to_owned()];
        let file = || Some(ClusterFile::open(dir.path()).unwrap());
        let mut peers = Peers::new(flags(), file(), ClientTls::default()).unwrap();
        assert_eq!(peers.order(), flags());
        peers.learn(answer("a", "http://new:1"));
        assert_eq!(peers.order(), ["http://new:1", "http://flag:1"]);
        let peers = Peers::new(flags(), file(), ClientTls::default()).unwrap();
        assert_eq!(peers.order(), ["http://new:1", "http://flag:1"]);
    }

    #[test]
    fn another_clusters_answer_is_not_taken() {
        let mut peers = Peers::new(vec![], None, ClientTls::default()).unwrap();
        assert!(!peers.is_other_cluster(&answer("a", "http://one:1")));
        peers.learn(answer("a", "http://one:1"));
        assert!(peers.is_other_cluster(&answer("b", "http://one:1")));
        assert!(!peers.is_other_cluster(&answer("a", "http://two:1")));
    }
}
