//! What a host is to be. The data directory decides, then the flags, then the discovery service.

use std::time::Duration;

use keelson_discovery::{Options, Outcome, Registration, Size};
use keelson_proxy::{MembersFrom, Mode, ProxyConfig};
use keelson_store::Store;
use keelson_store::config::Url;
use tracing::{info, warn};

use super::StartError;
use crate::flags::{Values, parse_cluster};
use crate::options::{self, MemberOptions, ProxyOptions};

/// What it is.
pub(super) enum Role {
    Member(Box<MemberOptions>),
    Proxy(ProxyOptions, ProxyConfig),
}

/// Decides. With discovery this takes until the others have come, too.
pub(super) async fn decide(values: &Values) -> Result<Role, StartError> {
    let data_dir = options::data_dir(values);
    if keelson_proxy::Role::of(&data_dir)? == keelson_proxy::Role::Proxy {
        info!(
            "data-dir" = %data_dir.display(),
            "this host is a proxy, as its data directory says; flags and discovery are not asked"
        );
        // What the proxy itself has kept goes before this.
        return proxy(values, peers_of(values.text("initial-cluster"))?);
    }
    if mode(values) != Mode::Off {
        return Ok(proxy(values, peers(values).await?)?);
    }
    let member = MemberOptions::from_values(values)?;
    if Store::is_there(&member.config)? {
        if values.is_given("discovery") {
            info!(
                "discovery token ignored since a cluster has already been initialized; valid logs \
                 are found"
            );
        }
        return Ok(Role::Member(Box::new(member)));
    }
    match (discovery_url(values), values.is_given("initial-cluster")) {
        (Some(_), true) => Err(StartError::Conflict),
        (Some(url), false) => discover(values, member, &url).await,
        (None, _) => Ok(Role::Member(Box::new(member))),
    }
}

fn discovery_url(values: &Values) -> Option<String> {
    let url = values.text("discovery");
    (!url.is_empty()).then(|| url.to_owned())
}

fn discovery_options(values: &Values) -> Options {
    let proxy = values.text("discovery-proxy");
    Options {
        proxy: (!proxy.is_empty()).then(|| proxy.to_owned()),
        ..Options::default()
    }
}

/// Founds the cluster together with the others, or comes too late for that.
async fn discover(
    values: &Values,
    mut member: MemberOptions,
    url: &str,
) -> Result<Role, StartError> {
    let advertised = &member.config.initial_advertise_peer_urls;
    let peer_urls: Vec<String> = advertised.iter().map(Url::to_string).collect();
    let me = Registration::new(&member.config.name, &peer_urls, url);
    match keelson_discovery::join(url, &me, &discovery_options(values)).await? {
        Outcome::Member {
            initial_cluster,
            size,
            ..
        } => {
            compare_sizes(size);
            info!("initial-cluster" = initial_cluster, %size, "this host is one of the founders");
            member.config.initial_cluster =
                parse_cluster(&initial_cluster).map_err(StartError::Found)?;
            member.config.initial_cluster_token = url.to_owned();
            Ok(Role::Member(Box::new(member)))
        }
        Outcome::Full {
            initial_cluster,
            size,
        } => {
            compare_sizes(size);
            if values.text("discovery-fallback") == "exit" {
                return Err(StartError::Full { size });
            }
            info!(%size, "discovery: cluster is full; this host becomes a proxy");
            proxy(values, peers_of(&initial_cluster)?)
        }
    }
}

/// What Deis calls the size of a platform; the token has been made with one already.
fn compare_sizes(token: Size) {
    match crate::environment::deis_num_instances() {
        Some(Ok(deis)) if deis != token => warn!(
            "DEIS_NUM_INSTANCES is {deis}, but the discovery token was made for {token} members; the \
             token decides"
        ),
        _ => {}
    }
}

/// The peer URLs from which a new proxy learns who the members are.
async fn peers(values: &Values) -> Result<Vec<String>, StartError> {
    let found = match discovery_url(values) {
        Some(_) if values.is_given("initial-cluster") => return Err(StartError::Conflict),
        Some(url) => keelson_discovery::cluster_of(&url, &discovery_options(values)).await?,
        None => values.text("initial-cluster").to_owned(),
    };
    peers_of(&found)
}

fn peers_of(cluster: &str) -> Result<Vec<String>, StartError> {
    let members = parse_cluster(cluster).map_err(StartError::Found)?;
    Ok(members.iter().map(|(_, url)| url.to_string()).collect())
}

fn mode(values: &Values) -> Mode {
    values
        .text("proxy")
        .parse()
        .expect("the flag's kind knows only these words")
}

fn proxy(values: &Values, peer_urls: Vec<String>) -> Result<Role, StartError> {
    let options = ProxyOptions::from_values(values)?;
    let ms = |flag| Duration::from_millis(values.count(flag));
    let config = ProxyConfig {
        mode: match mode(values) {
            // A proxy by its data directory, or since the cluster was full.
            Mode::Off => Mode::On,
            chosen => chosen,
        },
        data_dir: Some(options.data_dir.clone()),
        refresh_interval: ms("proxy-refresh-interval"),
        failure_wait: ms("proxy-failure-wait"),
        dial_timeout: ms("proxy-dial-timeout"),
        write_timeout: ms("proxy-write-timeout"),
        request_timeout: Duration::from_secs(5) + 2 * ms("election-timeout"),
        ..ProxyConfig::new(MembersFrom::Peers(peer_urls))
    };
    Ok(Role::Proxy(options, config))
}
