//! Decides the role of a host: by the data directory first, then the flags, then the discovery
//! service.

use std::collections::BTreeSet;
use std::time::Duration;

use keelson_discovery::{Outcome, Place, Registration, Size, srv, v3};
use keelson_proxy::{ClientTls, MembersFrom, Mode, ProxyConfig};
use keelson_store::Store;
use keelson_store::config::{InitialClusterState, Url};
use tracing::{info, warn};

use super::data_dir::DirectoryRole;
use super::{StartError, data_dir, founder};
use crate::flags::parse_cluster;
use crate::options::{
    Bootstrap, ClusterList, HostOptions, MemberOptions, OptionsError, ProxyOptions,
};

/// A host's role, with its options.
pub(super) enum Role {
    Member(Box<MemberOptions>),
    Proxy(Box<ProxyOptions>, Box<ProxyConfig>),
}

/// Decides the role. With discovery it waits until the other founders have registered.
pub(super) async fn decide(options: HostOptions) -> Result<Role, StartError> {
    let HostOptions {
        data_dir: path,
        mode,
        bootstrap,
        initial_cluster,
        member,
        proxy: of_proxy,
        exits_when_late,
    } = options;
    let role = DirectoryRole::of(&path)?;
    if role == DirectoryRole::Proxy {
        info!(
            "data-dir" = %path.display(),
            "the data directory makes this host a proxy; flags and discovery do not change that"
        );
        if data_dir::has_cluster_file(&path)? {
            // The member list that the proxy saved has precedence over this one.
            return proxy(mode, *of_proxy?, peers_of(&initial_cluster.text)?, false);
        }
    }
    // A proxy that ended before any member had answered it begins like a new one. A member stays a
    // member: --proxy is for new hosts, as in etcd.
    let is_new_proxy = mode != Mode::Off && role == DirectoryRole::Undecided;
    if role == DirectoryRole::Proxy || is_new_proxy {
        let found = peers(&initial_cluster, &bootstrap).await?;
        return proxy(mode, *of_proxy?, found, bootstrap.finds_members());
    }
    let member = member?;
    if Store::is_there(&member.config)? {
        if bootstrap.finds_members() {
            info!(
                "discovery token ignored since a cluster has already been initialized; valid logs \
                 are found"
            );
        }
        return Ok(Role::Member(member));
    }
    let host = NewHost {
        member,
        proxy: of_proxy,
        mode,
        exits_when_late,
    };
    let wanted = wanted_size()?;
    match bootstrap {
        Bootstrap::Discovery(url, options) => {
            let founder = Founder::new(&host.member, &url)?;
            let (me, note) = (&founder.me, Some(founder.note()));
            let found = keelson_discovery::join(&url, me, &options, note).await?;
            host.place(&founder, &url, found, wanted)
        }
        Bootstrap::DiscoveryV3(options) => {
            let founder = Founder::new(&host.member, &options.token)?;
            let found = v3::join(&founder.me, &options, Some(founder.note())).await?;
            host.place(&founder, &options.token, found, wanted)
        }
        Bootstrap::Dns(service) => look_up(host.member, &service).await,
        Bootstrap::List => host.list(&initial_cluster, wanted),
    }
}

/// Deis's size of a platform.
fn wanted_size() -> Result<Option<Size>, StartError> {
    let wanted = crate::environment::deis_num_instances().transpose();
    let wanted = wanted.map_err(StartError::DeisNumInstances)?;
    if let Some(warning) = wanted.and_then(Size::warning) {
        warn!("DEIS_NUM_INSTANCES: {warning}");
    }
    Ok(wanted)
}

/// Founds the cluster that DNS lists.
async fn look_up(
    mut member: Box<MemberOptions>,
    service: &srv::SrvQuery,
) -> Result<Role, StartError> {
    let dns = srv::Dns::new().map_err(srv::SrvError::Unresolved)?;
    let urls = peer_urls(&member);
    let found = srv::cluster(&dns, service, &member.config.name, &urls).await?;
    info!(
        "initial-cluster" = found,
        "got the initial cluster from DNS"
    );
    member.config.initial_cluster = parsed(&found)?;
    let client = &mut member.config.peer_tls.client;
    if found.contains("=https://") && client.ca.is_none() && !client.trusts_any {
        // As in etcd: a forged record leads to a host without a certificate for the domain.
        client.server_name = Some(service.domain.clone());
    }
    Ok(Role::Member(member))
}

fn peer_urls(member: &MemberOptions) -> Vec<String> {
    let advertised = &member.config.initial_advertise_peer_urls;
    advertised.iter().map(Url::to_string).collect()
}

fn parsed(cluster: &str) -> Result<Vec<(String, Url)>, StartError> {
    parse_cluster(cluster).map_err(StartError::Found)
}

/// A host without a log that is about to register.
struct Founder {
    me: Registration,
    note: founder::FounderNote,
    /// An earlier start had written the note.
    noted: bool,
}

impl Founder {
    fn new(member: &MemberOptions, token: &str) -> Result<Founder, StartError> {
        let me = Registration::new(&member.config.name, &peer_urls(member), token);
        let note = founder::FounderNote::of(&member.config.data_dir, token, &me);
        Ok(Founder {
            noted: note.is_there()?,
            me,
            note,
        })
    }

    /// The note to write before registering.
    fn note(&self) -> keelson_discovery::Note {
        let note = self.note.clone();
        Box::new(move || note.make())
    }

    /// A host that had registered before and has no note has lost its data: opening the store then
    /// queries the other members.
    fn must_be_vouched_for(&self, found: &Outcome) -> bool {
        let resumed = matches!(found, Outcome::Member { resumed: true, .. });
        resumed && !self.noted
    }
}

/// A host whose role is still open.
struct NewHost {
    member: Box<MemberOptions>,
    proxy: Result<Box<ProxyOptions>, OptionsError>,
    mode: Mode,
    exits_when_late: bool,
}

impl NewHost {
    /// The list is given by flags; if Deis's size is smaller than the list, its first hosts are the
    /// members.
    fn list(mut self, listed: &ClusterList, wanted: Option<Size>) -> Result<Role, StartError> {
        let config = &mut self.member.config;
        let is_new = config.initial_cluster_state == InitialClusterState::New;
        let Some(wanted) = wanted.filter(|_| is_new && listed.is_given) else {
            return Ok(Role::Member(self.member));
        };
        match keelson_discovery::choose(&listed.text, wanted, &config.name)? {
            Place::Member { initial_cluster } => {
                config.initial_cluster = parsed(&initial_cluster)?;
                let names = config.initial_cluster.iter().map(|(name, _)| name);
                let names: BTreeSet<_> = names.collect();
                if let Some(warning) = keelson_discovery::list_is_short(names.len(), wanted) {
                    warn!("{warning}");
                }
                Ok(Role::Member(self.member))
            }
            Place::Proxy { initial_cluster } => {
                info!(
                    "DEIS_NUM_INSTANCES is {wanted}, and this host is not among the first \
                     {wanted} of the list: it becomes a proxy"
                );
                self.becomes_proxy(&initial_cluster)
            }
        }
    }

    /// Turns the outcome of discovery into a role: a founder, or a host that comes too late.
    fn place(
        mut self,
        founder: &Founder,
        token: &str,
        outcome: Outcome,
        wanted: Option<Size>,
    ) -> Result<Role, StartError> {
        let (Outcome::Member { size, .. } | Outcome::Full { size, .. }) = &outcome;
        let disagreement =
            wanted.and_then(|wanted| keelson_discovery::token_disagrees(*size, wanted));
        if let Some(warning) = disagreement {
            warn!("{warning}");
        }
        let config = &mut self.member.config;
        if let Some(full) = outcome.full() {
            founder::forget(&config.data_dir)?;
            if self.exits_when_late {
                return Err(full.into());
            }
        }
        config.must_be_vouched_for = founder.must_be_vouched_for(&outcome);
        match outcome {
            Outcome::Member {
                initial_cluster, ..
            } => {
                info!(
                    "initial-cluster" = initial_cluster,
                    "this host is one of the founders"
                );
                config.initial_cluster = parsed(&initial_cluster)?;
                config.initial_cluster_token = token.to_owned();
                Ok(Role::Member(self.member))
            }
            Outcome::Full {
                initial_cluster, ..
            } => {
                info!("discovery: cluster is full; this host becomes a proxy");
                self.becomes_proxy(&initial_cluster)
            }
        }
    }

    fn becomes_proxy(self, initial_cluster: &str) -> Result<Role, StartError> {
        proxy(self.mode, *self.proxy?, peers_of(initial_cluster)?, true)
    }
}

/// The peer URLs from which a new proxy finds the members.
async fn peers(listed: &ClusterList, bootstrap: &Bootstrap) -> Result<Vec<String>, StartError> {
    let found = match bootstrap {
        Bootstrap::Discovery(url, options) => keelson_discovery::cluster_of(url, options).await?,
        Bootstrap::DiscoveryV3(options) => v3::cluster_of(options).await?,
        Bootstrap::Dns(service) => {
            let dns = srv::Dns::new().map_err(srv::SrvError::Unresolved)?;
            srv::cluster_of(&dns, service).await?
        }
        Bootstrap::List => listed.text.clone(),
    };
    peers_of(&found)
}

fn peers_of(cluster: &str) -> Result<Vec<String>, StartError> {
    let members = parsed(cluster)?;
    Ok(members.iter().map(|(_, url)| url.to_string()).collect())
}

/// Makes a proxy's role. For `members_expected` see [`ProxyConfig`].
fn proxy(
    mode: Mode,
    options: ProxyOptions,
    peer_urls: Vec<String>,
    members_expected: bool,
) -> Result<Role, StartError> {
    let base = ProxyConfig::new(MembersFrom::Peers(peer_urls));
    let (times, streams) = (&options.times, options.max_concurrent_streams);
    let mut config = ProxyConfig {
        mode: match mode {
            // A proxy by its data directory, or because the cluster was full.
            Mode::Off => Mode::On,
            chosen => chosen,
        },
        members_expected,
        refresh_interval: times.refresh_interval,
        failure_wait: times.failure_wait,
        dial_timeout: times.dial_timeout,
        write_timeout: times.write_timeout,
        request_timeout: Duration::from_secs(5) + 2 * times.election_timeout,
        // The longest election timeout, and the time of the votes after it.
        catch_up: 2 * times.election_timeout + Duration::from_millis(500),
        client_tls: ClientTls::new(options.upstream.client.clone())?,
        peer_tls: ClientTls::new(options.upstream.peer.clone())?,
        limits: base.limits.clone().with_streams(streams),
        ..base
    };
    config.limits.access = options.access.clone();
    Ok(Role::Proxy(Box::new(options), Box::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::syntax::{Parsed, parse};

    fn config(words: &[&str]) -> ProxyConfig {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let Ok(Parsed::Member(values)) = parse(&words) else {
            panic!("{words:?} are flags of a host");
        };
        let options = ProxyOptions::from_values(&values).expect("good flags");
        let Ok(Role::Proxy(_, config)) = proxy(Mode::On, options, vec![], false) else {
            panic!("{words:?} make a proxy");
        };
        *config
    }

    /// The flag's default, etcd's, stands for our own: without a bound a connection takes
    /// gigabytes.
    #[test]
    fn max_concurrent_streams_is_handed_on_to_a_proxy() {
        let cases: [(&[&str], u32); 3] = [
            (&["--max-concurrent-streams", "7"], 7),
            (&["--max-concurrent-streams", "4294967295"], 4096),
            (&[], 4096),
        ];
        for (flags, expected) in cases {
            assert_eq!(config(flags).limits.concurrent_streams_max, expected);
        }
    }

    #[test]
    fn a_proxys_patience_follows_the_election_timeout() {
        let config = config(&["--proxy", "on", "--election-timeout", "3000"]);
        assert_eq!(config.request_timeout, Duration::from_secs(11));
        assert_eq!(config.catch_up, Duration::from_millis(6500));
    }
}
