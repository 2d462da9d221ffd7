//! The member list, fetched from any member's peer URL.

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
use crate::config::{MembersFrom, SavePeerUrls};
use crate::context::Context;
use crate::http1::fetch;
use crate::policy::health_check;
use keelson_port::LogThrottle;

/// Between two attempts while no member is known.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The time in which a peer must accept a connection, where no configuration has one.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The time in which a peer must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const CLUSTER_ID: &str = "x-etcd-cluster-id";

/// A member in the answer of `/members` on a peer URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ListedMember {
    /// A decimal number here, unlike everywhere else. Other servers that answer the path do not
    /// have it.
    #[serde(rename = "id")]
    _id: u64,
    #[serde(rename = "peerURLs", default)]
    pub(crate) peer_urls: Option<Vec<String>>,
    #[serde(rename = "clientURLs", default)]
    pub(crate) client_urls: Option<Vec<String>>,
}

/// The peer URLs from which the member list is fetched, in the order in which they are tried.
pub(crate) struct Peers {
    /// From the latest answer, or from an earlier run.
    latest: Vec<String>,
    /// From the flags, for when no other answers.
    configured: Vec<String>,
    save: Option<SavePeerUrls>,
    /// For https URLs.
    tls: ClientTls,
    /// As they were saved last.
    kept: Vec<String>,
    /// The cluster id of the first answer. The member list of another cluster is not used.
    cluster: Option<HeaderValue>,
    /// For messages about other clusters.
    foreign: LogThrottle,
}

/// Why the member list could not be fetched; the last peer's error.
enum Unavailable {
    /// A peer has answered without client URLs: the cluster is about to start.
    Starting(io::Error),
    /// No peer has answered.
    Unreachable(io::Error),
}

/// The answer of a peer.
struct MemberList {
    cluster: Option<HeaderValue>,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
}

impl Peers {
    /// `kept` has precedence over the flags: the cluster may have moved since they were set.
    pub(crate) fn new(
        configured: Vec<String>,
        kept: Vec<String>,
        save: Option<SavePeerUrls>,
        tls: ClientTls,
    ) -> Peers {
        let latest = match kept.is_empty() {
            true => configured.clone(),
            false => {
                info!(peer_urls = ?kept, "using the peer URLs of the last run");
                kept.clone()
            }
        };
        Peers {
            latest,
            configured,
            save,
            tls,
            kept,
            cluster: None,
            foreign: LogThrottle::default(),
        }
    }

    /// Whether an earlier run of this proxy had members.
    pub(crate) fn are_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Fetches the client URLs of all members.
    async fn fetch(&mut self, dial_timeout: Duration) -> Result<Vec<String>, Unavailable> {
        let mut last = io::Error::other("there are no peer URLs");
        let mut starting = false;
        for url in self.order() {
            let fetching = fetch_members(&url, &self.tls, dial_timeout);
            let answered = time::timeout(ANSWER_TIMEOUT, fetching).await;
            match answered.unwrap_or_else(|late| Err(late.into())) {
                Ok(answer) if self.is_other_cluster(&answer) => {
                    if self.foreign.failing().is_some() {
                        warn!(peer = %url, "a peer URL belongs to another cluster; it is not used");
                    }
                    last = io::Error::other("it is of another cluster");
                }
                // The peer has started, but no member has published its client URLs yet.
                Ok(answer) if answer.client_urls.is_empty() => {
                    starting = true;
                    last = io::Error::other("it has no client URL of a member yet");
                }
                Ok(answer) => return Ok(self.adopt(answer)),
                Err(error) => {
                    debug!(peer = %url, %error, "a peer does not return the member list");
                    last = error;
                }
            }
        }
        Err(match starting {
            true => Unavailable::Starting(last),
            false => Unavailable::Unreachable(last),
        })
    }

    fn order(&self) -> Vec<String> {
        let mut order = self.latest.clone();
        order.extend(
            self.configured
                .iter()
                .filter(|url| !self.latest.contains(url))
                .cloned(),
        );
        order
    }

    fn is_other_cluster(&self, answer: &MemberList) -> bool {
        match (&self.cluster, &answer.cluster) {
            (Some(known), Some(answered)) => known != answered,
            _ => false,
        }
    }

    fn adopt(&mut self, answer: MemberList) -> Vec<String> {
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
        let Some(save) = &self.save else { return };
        match save.save(&self.latest) {
            Ok(()) => self.kept.clone_from(&self.latest),
            // The proxy goes on, for instance with a full disk.
            Err(error) => warn!(%error, "cannot save the peer URLs"),
        }
    }
}

/// Fetches the client URLs of all members from the first of these peer URLs that returns them.
pub async fn fetch_client_urls(peer_urls: Vec<String>, tls: ClientTls) -> Option<Vec<String>> {
    let mut peers = Peers::new(peer_urls, Vec::new(), None, tls);
    peers.fetch(DIAL_TIMEOUT).await.ok()
}

async fn fetch_members(
    url: &str,
    tls: &ClientTls,
    dial_timeout: Duration,
) -> io::Result<MemberList> {
    let address = Address::of(url, Some(tls)).map_err(io::Error::other)?;
    let (headers, body) = fetch::get(&address, "/members", dial_timeout).await?;
    let members: Vec<ListedMember> = serde_json::from_slice(&body)?;
    let peer_urls: BTreeSet<_> = members
        .iter()
        .filter_map(|one| one.peer_urls.clone())
        .collect();
    let client_urls: BTreeSet<_> = members
        .iter()
        .filter_map(|one| one.client_urls.clone())
        .collect();
    Ok(MemberList {
        cluster: headers.get(CLUSTER_ID).cloned(),
        peer_urls: peer_urls.into_iter().flatten().collect(),
        client_urls: client_urls.into_iter().flatten().collect(),
    })
}

/// Keeps the endpoints up to date, and runs a health check for each. Never returns.
pub(crate) async fn keep(context: Arc<Context>, mut peers: Option<Peers>) {
    let mut found = false;
    let mut health_checks = JoinSet::new();
    let mut unavailable = LogThrottle::default();
    loop {
        let urls = match (&mut peers, &context.config.members) {
            (Some(peers), _) => peers.fetch(context.config.dial_timeout).await,
            (None, MembersFrom::Clients(urls) | MembersFrom::Peers(urls)) => Ok(urls.clone()),
        };
        log(&mut unavailable, &urls);
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
            Err(Unavailable::Starting(_)) => {}
            Err(Unavailable::Unreachable(_)) => context.endpoints.none_found(),
        }
        // The checks of removed members have ended.
        while health_checks.try_join_next().is_some() {}
        let known = !context.endpoints.list().is_empty();
        time::sleep(if known {
            context.config.refresh_interval
        } else {
            RETRY_INTERVAL
        })
        .await;
    }
}

/// Logs etcd 2's line, which scripts search for.
fn announce(urls: &[String]) {
    info!(
        endpoints = ?urls,
        plain = %format_args!("proxy: endpoints found [{}]", quoted(urls)),
        "proxy: endpoints found"
    );
}

/// A list in the form of Go's `%q`.
fn quoted(urls: &[String]) -> String {
    let quoted: Vec<_> = urls.iter().map(|url| format!("{url:?}")).collect();
    quoted.join(" ")
}

/// Logs when no peer returns the member list, and when one does again.
fn log(unavailable: &mut LogThrottle, urls: &Result<Vec<String>, Unavailable>) {
    match urls {
        Ok(_) => {
            if let Some(lasted) = unavailable.recovered() {
                let lasted_seconds = lasted.as_secs();
                info!(lasted_seconds, "a peer returns the member list again");
            }
        }
        Err(Unavailable::Starting(error) | Unavailable::Unreachable(error)) => {
            if let Some(lasted) = unavailable.failing() {
                let text = "no peer returns the member list; keeping the last one";
                warn!(%error, lasted_seconds = lasted.as_secs(), "{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn answer(cluster: &'static str, peer_url: &str) -> MemberList {
        MemberList {
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
        let members: Vec<ListedMember> = serde_json::from_str(text).unwrap();
        assert_eq!(
            members[0].client_urls.as_ref().unwrap()[0],
            "http://127.0.0.1:23791"
        );
        assert_eq!(members[1].client_urls, None);
        assert!(serde_json::from_str::<Vec<ListedMember>>(r#"[{"id":"1f"}]"#).is_err());
    }

    #[test]
    fn a_fetched_list_is_kept_and_flags_come_last() {
        let flags = || vec!["http://flag:1".to_owned()];
        let saved = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&saved);
        let save = SavePeerUrls::new(move |urls| {
            *kept.lock() = urls.to_vec();
            Ok(())
        });
        let tls = ClientTls::default();
        let mut peers = Peers::new(flags(), vec![], Some(save), tls.clone());
        assert_eq!(peers.order(), flags());
        peers.adopt(answer("a", "http://new:1"));
        assert_eq!(peers.order(), ["http://new:1", "http://flag:1"]);
        let peers = Peers::new(flags(), saved.lock().clone(), None, tls);
        assert_eq!(peers.order(), ["http://new:1", "http://flag:1"]);
    }

    #[test]
    fn another_clusters_answer_is_not_used() {
        let mut peers = Peers::new(vec![], vec![], None, ClientTls::default());
        assert!(!peers.is_other_cluster(&answer("a", "http://one:1")));
        peers.adopt(answer("a", "http://one:1"));
        assert!(peers.is_other_cluster(&answer("b", "http://one:1")));
        assert!(!peers.is_other_cluster(&answer("a", "http://two:1")));
    }
}
