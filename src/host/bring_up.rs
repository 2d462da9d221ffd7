//! Decides the role of a host: by the data directory first, then the flags, then the discovery
//! service.

use std::collections::BTreeSet;
use std::time::Duration;

use keelson_discovery::{Options, Outcome, Place, Registration, Size, srv, v3};
use keelson_proxy::{ClientTls, MembersFrom, Mode, ProxyConfig};
use keelson_store::Store;
use keelson_store::config::{InitialClusterState, Url};
use tracing::{info, warn};

use super::data_dir::DirectoryRole;
use super::{StartError, data_dir, founder};
use crate::flags::{Values, parse_cluster};
use crate::options::{self, MemberOptions, ProxyOptions};

/// A host's role, with its options.
pub(super) enum Role {
    Member(Box<MemberOptions>),
    Proxy(Box<ProxyOptions>, Box<ProxyConfig>),
}

/// Decides the role. With discovery it waits until the other founders have registered.
pub(super) async fn decide(values: &Values) -> Result<Role, StartError> {
    let path = options::data_dir(values);
    let role = DirectoryRole::of(&path)?;
    if role == DirectoryRole::Proxy {
        info!(
            "data-dir" = %path.display(),
            "the data directory makes this host a proxy; flags and discovery do not change that"
        );
        if data_dir::has_cluster_file(&path)? {
            // The member list that the proxy saved has precedence over this one.
            return proxy(values, peers_of(values.text("initial-cluster"))?, false);
        }
        // The proxy ended before any member had answered it.
        let way = Bootstrap::chosen(values)?;
        return proxy(values, peers(values, &way).await?, way.finds_members());
    }
    let way = Bootstrap::chosen(values)?;
    // A member stays a member: --proxy is for new hosts, as in etcd.
    if mode(values) != Mode::Off && role == DirectoryRole::Undecided {
        return proxy(values, peers(values, &way).await?, way.finds_members());
    }
    let member = MemberOptions::from_values(values)?;
    if Store::is_there(&member.config)? {
        if matches!(way, Bootstrap::Discovery(_) | Bootstrap::DiscoveryV3(_)) {
            info!(
                "discovery token ignored since a cluster has already been initialized; valid logs \
                 are found"
            );
        }
        return Ok(Role::Member(Box::new(member)));
    }
    let wanted = wanted_size()?;
    match way {
        Bootstrap::Discovery(url) => {
            let founder = Founder::new(&member, &url)?;
            let (me, note) = (&founder.me, Some(founder.note()));
            let options = discovery_options(values);
            let found = keelson_discovery::join(&url, me, &options, note).await?;
            place(values, founder.judged(member, &found), &url, found, wanted)
        }
        Bootstrap::DiscoveryV3(options) => {
            let founder = Founder::new(&member, &options.token)?;
            let found = v3::join(&founder.me, &options, Some(founder.note())).await?;
            let member = founder.judged(member, &found);
            place(values, member, &options.token, found, wanted)
        }
        Bootstrap::Dns(service) => look_up(member, &service).await,
        Bootstrap::List => list(values, member, wanted),
    }
}

/// How a host finds the other members.
enum Bootstrap {
    /// They are listed, or there are none.
    List,
    /// A discovery URL.
    Discovery(String),
    /// A token in the v3 API of another cluster.
    DiscoveryV3(Box<v3::Options>),
    /// SRV records.
    Dns(srv::SrvQuery),
}

impl Bootstrap {
    /// Whether the members found have registered themselves.
    fn finds_members(&self) -> bool {
        matches!(self, Bootstrap::Discovery(_) | Bootstrap::DiscoveryV3(_))
    }

    fn chosen(values: &Values) -> Result<Bootstrap, StartError> {
        let flags = [
            "initial-cluster",
            "discovery",
            "discovery-srv",
            "discovery-token",
        ];
        let given = flags
            .iter()
            .filter(|flag| !values.text(flag).is_empty() && values.is_given(flag));
        if 1 < given.count() {
            return Err(StartError::Conflict);
        }
        let text = |flag: &str| values.text(flag).to_owned();
        Ok(match (text("discovery"), text("discovery-srv")) {
            (url, _) if !url.is_empty() => Bootstrap::Discovery(url),
            (_, domain) if !domain.is_empty() => Bootstrap::Dns(srv::SrvQuery {
                domain,
                name: text("discovery-srv-name"),
            }),
            _ if !text("discovery-token").is_empty() => {
                Bootstrap::DiscoveryV3(Box::new(v3_options(values)))
            }
            _ => Bootstrap::List,
        })
    }
}

fn v3_options(values: &Values) -> v3::Options {
    let text = |flag: &str| values.text(flag).to_owned();
    let endpoints = text("discovery-endpoints");
    let endpoints = endpoints
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty());
    v3::Options {
        endpoints: endpoints.map(str::to_owned).collect(),
        token: text("discovery-token"),
        dial_timeout: values.duration("discovery-dial-timeout"),
        request_timeout: values.duration("discovery-request-timeout"),
        keepalive_time: values.duration("discovery-keepalive-time"),
        keepalive_timeout: values.duration("discovery-keepalive-timeout"),
        user: Some(text("discovery-user")).filter(|user| !user.is_empty()),
        ..v3::Options::default()
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

/// The list is given by flags; if Deis's size is smaller than the list, its first hosts are the
/// members.
fn list(
    values: &Values,
    mut member: MemberOptions,
    wanted: Option<Size>,
) -> Result<Role, StartError> {
    let is_new = member.config.initial_cluster_state == InitialClusterState::New;
    let Some(wanted) = wanted.filter(|_| is_new && values.is_given("initial-cluster")) else {
        return Ok(Role::Member(Box::new(member)));
    };
    let listed = values.text("initial-cluster");
    match keelson_discovery::choose(listed, wanted, &member.config.name)? {
        Place::Member { initial_cluster } => {
            member.config.initial_cluster = parsed(&initial_cluster)?;
            let names: BTreeSet<_> = member
                .config
                .initial_cluster
                .iter()
                .map(|(name, _)| name)
                .collect();
            if let Some(warning) = keelson_discovery::list_is_short(names.len(), wanted) {
                warn!("{warning}");
            }
            Ok(Role::Member(Box::new(member)))
        }
        Place::Proxy { initial_cluster } => {
            info!(
                "DEIS_NUM_INSTANCES is {wanted}, and this host is not among the first {wanted} of \
                 the list: it becomes a proxy"
            );
            proxy(values, peers_of(&initial_cluster)?, true)
        }
    }
}

/// Founds the cluster that DNS lists.
async fn look_up(mut member: MemberOptions, service: &srv::SrvQuery) -> Result<Role, StartError> {
    let dns = srv::Dns::new().map_err(srv::SrvError::Unresolved)?;
    let urls = peer_urls(&member);
    let found = srv::cluster(&dns, service, &member.config.name, &urls).await?;
    info!(
        "initial-cluster" = found,
        "got the initial cluster from DNS"
    );
    member.config.initial_cluster = parsed(&found)?;
    Ok(Role::Member(Box::new(member)))
}

fn peer_urls(member: &MemberOptions) -> Vec<String> {
    let advertised = &member.config.initial_advertise_peer_urls;
    advertised.iter().map(Url::to_string).collect()
}

fn parsed(cluster: &str) -> Result<Vec<(String, Url)>, StartError> {
    parse_cluster(cluster).map_err(StartError::Found)
}

fn discovery_options(values: &Values) -> Options {
    let proxy = values.text("discovery-proxy");
    Options {
        proxy: (!proxy.is_empty()).then(|| proxy.to_owned()),
        ..Options::default()
    }
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
    fn judged(&self, mut member: MemberOptions, found: &Outcome) -> MemberOptions {
        let resumed = matches!(found, Outcome::Member { resumed: true, .. });
        member.config.must_be_vouched_for = resumed && !self.noted;
        member
    }
}

/// Turns the outcome of discovery into a role: a founder, or a host that comes too late.
fn place(
    values: &Values,
    mut member: MemberOptions,
    token: &str,
    outcome: Outcome,
    wanted: Option<Size>,
) -> Result<Role, StartError> {
    let (Outcome::Member { size, .. } | Outcome::Full { size, .. }) = &outcome;
    let disagreement = wanted.and_then(|wanted| keelson_discovery::token_disagrees(*size, wanted));
    if let Some(warning) = disagreement {
        warn!("{warning}");
    }
    if let Some(full) = outcome.full() {
        founder::forget(&member.config.data_dir)?;
        if values.text("discovery-fallback") == "exit" {
            return Err(full.into());
        }
    }
    match outcome {
        Outcome::Member {
            initial_cluster, ..
        } => {
            info!(
                "initial-cluster" = initial_cluster,
                "this host is one of the founders"
            );
            member.config.initial_cluster = parsed(&initial_cluster)?;
            member.config.initial_cluster_token = token.to_owned();
            Ok(Role::Member(Box::new(member)))
        }
        Outcome::Full {
            initial_cluster, ..
        } => {
            info!("discovery: cluster is full; this host becomes a proxy");
            proxy(values, peers_of(&initial_cluster)?, true)
        }
    }
}

/// The peer URLs from which a new proxy finds the members.
async fn peers(values: &Values, way: &Bootstrap) -> Result<Vec<String>, StartError> {
    let found = match way {
        Bootstrap::Discovery(url) => {
            keelson_discovery::cluster_of(url, &discovery_options(values)).await?
        }
        Bootstrap::DiscoveryV3(options) => v3::cluster_of(options).await?,
        Bootstrap::Dns(service) => {
            let dns = srv::Dns::new().map_err(srv::SrvError::Unresolved)?;
            srv::cluster_of(&dns, service).await?
        }
        Bootstrap::List => values.text("initial-cluster").to_owned(),
    };
    peers_of(&found)
}

fn peers_of(cluster: &str) -> Result<Vec<String>, StartError> {
    let members = parsed(cluster)?;
    Ok(members.iter().map(|(_, url)| url.to_string()).collect())
}

fn mode(values: &Values) -> Mode {
    values
        .text("proxy")
        .parse()
        .expect("the flag's kind allows only these values")
}

/// Makes a proxy's role. For `members_expected` see [`ProxyConfig`].
fn proxy(
    values: &Values,
    peer_urls: Vec<String>,
    members_expected: bool,
) -> Result<Role, StartError> {
    let options = ProxyOptions::from_values(values)?;
    let ms = |flag| Duration::from_millis(values.count(flag));
    let base = ProxyConfig::new(MembersFrom::Peers(peer_urls));
    let streams = options.max_concurrent_streams;
    let mut config = ProxyConfig {
        mode: match mode(values) {
            // A proxy by its data directory, or because the cluster was full.
            Mode::Off => Mode::On,
            chosen => chosen,
        },
        members_expected,
        refresh_interval: ms("proxy-refresh-interval"),
        failure_wait: ms("proxy-failure-wait"),
        dial_timeout: ms("proxy-dial-timeout"),
        write_timeout: ms("proxy-write-timeout"),
        request_timeout: Duration::from_secs(5) + 2 * ms("election-timeout"),
        // The longest election timeout, and the time of the votes after it.
        catch_up: 2 * ms("election-timeout") + Duration::from_millis(500),
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
            let words = ["--proxy", "on"].iter().chain(flags);
            let words: Vec<_> = words.map(|word| (*word).to_owned()).collect();
            let Ok(Parsed::Member(values)) = parse(&words) else {
                panic!("{words:?} are flags of a host");
            };
            let Ok(Role::Proxy(_, config)) = proxy(&values, vec![], false) else {
                panic!("{words:?} make a proxy");
            };
            assert_eq!(config.limits.concurrent_streams_max, expected);
        }
    }

    #[test]
    fn a_proxys_patience_follows_the_election_timeout() {
        let line = ["--proxy", "on", "--election-timeout", "3000"];
        let words = line.map(str::to_owned);
        let Ok(Parsed::Member(values)) = parse(&words) else {
            panic!("{line:?} are flags of a host");
        };
        let Ok(Role::Proxy(_, config)) = proxy(&values, vec![], false) else {
            panic!("{line:?} make a proxy");
        };
        assert_eq!(config.request_timeout, Duration::from_secs(11));
        assert_eq!(config.catch_up, Duration::from_millis(6500));
    }
}
