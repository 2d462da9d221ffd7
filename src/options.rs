//! From values as typed to what a member is told: every check etcd makes before it starts.

use std::net::UdpSocket;
use std::path::PathBuf;

use keelson_store::Config;
use keelson_store::config::{
    ConfigError, InitialClusterState, QUOTA_BYTES_DEFAULT, StorageEngine, Url, check_bindable,
};
use keelson_store::edge::{Access, TlsFiles};

use crate::flags::{self, Effect, Values, parse_cluster};
use crate::logging::LogOptions;
use crate::options_tls::{self, Upstream};

/// Everything `src/` needs to start a member.
#[derive(Debug)]
pub(crate) struct MemberOptions {
    /// What the store is opened with.
    pub(crate) config: Config,
    /// Where clients are listened for; the store never binds these itself.
    pub(crate) listeners: ClientListeners,
    /// Said in the log once it is there.
    pub(crate) warnings: Vec<String>,
}

/// Where clients are listened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientListeners {
    /// All of them, or the process does not start.
    pub(crate) urls: Vec<Url>,
    /// If they can be had: the second port of etcd 2, which its clients try.
    pub(crate) spare: Vec<Url>,
    /// For those of `urls` that are https.
    pub(crate) tls: Option<TlsFiles>,
}

impl ClientListeners {
    fn from_values(
        values: &Values,
        urls: &[Url],
        warnings: &mut Vec<String>,
    ) -> Result<ClientListeners, OptionsError> {
        let chosen = ["listen-client-urls", "addr", "bind-addr"];
        let by_default = !chosen.iter().any(|flag| values.is_given(flag));
        Ok(ClientListeners {
            urls: urls.to_vec(),
            tls: options_tls::client_listeners(values, urls, warnings)?,
            spare: match by_default {
                true => vec![Url::http("localhost", 4001)],
                false => Vec::new(),
            },
        })
    }
}

/// Everything `src/` needs to start a proxy.
#[derive(Debug)]
pub(crate) struct ProxyOptions {
    /// `--data-dir`, which remembers that this is a proxy.
    pub(crate) data_dir: PathBuf,
    /// Where clients are listened for.
    pub(crate) listeners: ClientListeners,
    /// What is presented to members, and trusted.
    pub(crate) upstream: Upstream,
    /// `--max-concurrent-streams`, of one connection.
    pub(crate) max_concurrent_streams: u32,
    /// `--cors` and `--host-whitelist`.
    pub(crate) access: Access,
    /// Said in the log once it is there.
    pub(crate) warnings: Vec<String>,
}

impl ProxyOptions {
    /// Checks and converts.
    pub(crate) fn from_values(values: &Values) -> Result<ProxyOptions, OptionsError> {
        refuse_unsupported(values, &options_tls::OF_PEERS)?;
        let urls = Addresses::from_values(values)?;
        check_bindable(&urls.listen_client)?;
        let mut warnings = without_effect(values);
        Ok(ProxyOptions {
            data_dir: data_dir(values),
            listeners: ClientListeners::from_values(values, &urls.listen_client, &mut warnings)?,
            upstream: Upstream::from_values(values)?,
            max_concurrent_streams: values.count32("max-concurrent-streams"),
            access: access(values)?,
            warnings,
        })
    }
}

/// Flags that are well written and cannot work. Exit status 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    /// The store's own checks.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A feature that is not built.
    #[error("--{0} is not supported yet; {1}")]
    Unsupported(&'static str, &'static str),
    /// etcd's rule: whoever chooses where to listen must say how clients get there.
    #[error(
        "--advertise-client-urls is required when --listen-client-urls is set explicitly; \
         when listening on specific address(es), this process must advertise accessible url(s) \
         to each connected client"
    )]
    AdvertiseMissing,
    /// A listener or peer URL wants TLS.
    #[error(
        "{0} in --{1} needs TLS between members, which is not supported yet; use http:// on a \
         network you trust"
    )]
    Secure(Url, &'static str),
    /// etcd's words, and the flags.
    #[error(
        "cannot listen on TLS for {0}: KeyFile and CertFile are not presented; give --cert-file and \
         --key-file"
    )]
    NoCertificate(Url),
    /// One without the other.
    #[error("--{0} and --{1} belong together: give both or neither")]
    HalfCertificate(&'static str, &'static str),
    /// etcd would trust whatever the system trusts.
    #[error("--client-cert-auth needs --trusted-ca-file: whose certificates clients must have")]
    NoClientCa,
    /// `--initial-cluster` cannot be read.
    #[error(
        "error setting up initial cluster: {0}; write --initial-cluster as name=http://host:2380,..."
    )]
    Cluster(String),
    /// What browsers send as `Origin` is a scheme, a host and perhaps a port.
    #[error("\"{0}\" in --cors is no origin; write https://host:port,... or *")]
    Origin(String),
    /// A word etcd does not know.
    #[error("unknown auto-compaction-mode \"{0}\"; choose periodic or revision")]
    CompactionMode(String),
}

impl MemberOptions {
    /// Checks and converts.
    pub(crate) fn from_values(values: &Values) -> Result<MemberOptions, OptionsError> {
        refuse_unsupported(values, &[])?;
        let mode = values.text("auto-compaction-mode");
        if !matches!(mode, "periodic" | "revision") {
            return Err(OptionsError::CompactionMode(mode.to_owned()));
        }
        let urls = Addresses::from_values(values)?;
        refuse_secure(&urls.listen_peer, "listen-peer-urls")?;
        refuse_secure(&urls.advertise_peer, "initial-advertise-peer-urls")?;
        check_bindable(&urls.listen_client)?;
        let mut warnings = without_effect(values);
        let config = config(values, &urls)?;
        config.validate()?;
        if urls.advertise_client_missing && !may_be_proxy(values) {
            return Err(OptionsError::AdvertiseMissing);
        }
        warnings.extend(config.names_with_several_hosts().into_iter().map(|name| {
            format!(
                "\"{name}\" stands several times in --initial-cluster, on different hosts: taken \
                 as one member with several URLs; if these are several members, give each a name"
            )
        }));
        Ok(MemberOptions {
            config,
            listeners: ClientListeners::from_values(values, &urls.listen_client, &mut warnings)?,
            warnings,
        })
    }
}

/// Every check that needs nothing but the flags.
pub(crate) fn check(values: &Values) -> Result<(), OptionsError> {
    match values.text("proxy") {
        "off" => MemberOptions::from_values(values).map(drop),
        _ => ProxyOptions::from_values(values).map(drop),
    }
}

/// A host that turns out to be a proxy advertises nothing.
fn may_be_proxy(values: &Values) -> bool {
    let falls_back = values.text("discovery-fallback") == "proxy";
    values.text("proxy") != "off"
        || ((values.is_given("discovery") || values.is_given("discovery-token")) && falls_back)
}

/// `--data-dir`, or etcd's default, which is named after the member.
pub(crate) fn data_dir(values: &Values) -> PathBuf {
    match values.text("data-dir") {
        "" => PathBuf::from(format!("{}.etcd", name(values))),
        dir => PathBuf::from(dir),
    }
}

fn name(values: &Values) -> &str {
    match values.text("name") {
        "" => "default",
        name => name,
    }
}

/// `--cors` and `--host-whitelist`.
fn access(values: &Values) -> Result<Access, OptionsError> {
    let list = |flag| {
        let names = values
            .text(flag)
            .split(',')
            .map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let origins = list("cors");
    let is_origin = |origin: &&String| {
        let rest = ["http://", "https://", "unix://", "unixs://"];
        let rest = rest.iter().find_map(|scheme| origin.strip_prefix(scheme));
        *origin == "*" || rest.is_some_and(|host| !host.is_empty() && !host.contains('/'))
    };
    if let Some(wrong) = origins.iter().find(|origin| !is_origin(origin)) {
        return Err(OptionsError::Origin(wrong.clone()));
    }
    Ok(Access::new(origins, list("host-whitelist")))
}

/// `but` are those that this role has a use for.
fn refuse_unsupported(values: &Values, but: &[&str]) -> Result<(), OptionsError> {
    for flag in flags::all() {
        if let Effect::Unsupported(remedy) = flag.effect
            && values.is_changed(flag)
            && !but.contains(&flag.name)
        {
            return Err(OptionsError::Unsupported(flag.name, remedy));
        }
    }
    Ok(())
}

fn without_effect(values: &Values) -> Vec<String> {
    flags::all()
        .filter(|flag| matches!(flag.effect, Effect::Inert | Effect::Ignored))
        .filter(|flag| values.is_changed(flag))
        .map(|flag| format!("--{} is accepted but has no effect yet", flag.name))
        .collect()
}

/// The URLs of a member, with etcd's rules for what follows from what.
struct Addresses {
    listen_peer: Vec<Url>,
    listen_client: Vec<Url>,
    advertise_peer: Vec<Url>,
    advertise_client: Vec<Url>,
    advertise_client_missing: bool,
}

impl Addresses {
    fn from_values(values: &Values) -> Result<Addresses, OptionsError> {
        let mut urls = Addresses {
            listen_peer: values.urls("listen-peer-urls"),
            listen_client: values.urls("listen-client-urls"),
            advertise_peer: values.urls("initial-advertise-peer-urls"),
            advertise_client: values.urls("advertise-client-urls"),
            advertise_client_missing: values.is_given("listen-client-urls")
                && !values.is_given("advertise-client-urls")
                && !values.is_given("addr"),
        };
        urls.take_names_of_etcd_0_4(values);
        if !values.is_given("initial-advertise-peer-urls") && !values.is_given("peer-addr") {
            urls.advertise_default_host();
        }
        Ok(urls)
    }

    /// `addr` and its kin of etcd 0.4, which Deis's own tests still use; newer names go first.
    fn take_names_of_etcd_0_4(&mut self, values: &Values) {
        let old = |name: &str| {
            Url::parse(&format!("http://{}", values.text(name)))
                .ok()
                .filter(|_| values.is_given(name))
        };
        let everywhere = |url: &Url| Url::http("0.0.0.0", url.port());
        for (addr, bind, advertise, listen) in [
            (
                "addr",
                "bind-addr",
                "advertise-client-urls",
                "listen-client-urls",
            ),
            (
                "peer-addr",
                "peer-bind-addr",
                "initial-advertise-peer-urls",
                "listen-peer-urls",
            ),
        ] {
            let is_client = addr == "addr";
            let (advertised, listened) = if is_client {
                (&mut self.advertise_client, &mut self.listen_client)
            } else {
                (&mut self.advertise_peer, &mut self.listen_peer)
            };
            if let Some(url) = old(addr).filter(|_| !values.is_given(advertise)) {
                *advertised = vec![url];
            }
            let bound = old(bind).or_else(|| old(addr).as_ref().map(everywhere));
            if let Some(url) = bound.filter(|_| !values.is_given(listen)) {
                *listened = vec![url];
            }
        }
    }

    /// Listening for peers everywhere and advertising nothing: etcd advertises the address of the
    /// default route.
    fn advertise_default_host(&mut self) {
        let listened = &self.listen_peer[0];
        if listened.host() == "0.0.0.0"
            && let Some(host) = default_host()
        {
            self.advertise_peer = vec![Url::http(&host, listened.port())];
        }
    }
}

/// The address this host sends from by default; connecting a UDP socket sends nothing.
fn default_host() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // TEST-NET-1, RFC 5737
    Some(socket.local_addr().ok()?.ip().to_string())
}

fn refuse_secure(urls: &[Url], flag: &'static str) -> Result<(), OptionsError> {
    match urls.iter().find(|url| url.scheme().is_secure()) {
        Some(url) => Err(OptionsError::Secure(url.clone(), flag)),
        None => Ok(()),
    }
}

fn config(values: &Values, urls: &Addresses) -> Result<Config, OptionsError> {
    let name = name(values);
    let initial_cluster = if values.is_given("initial-cluster") {
        parse_cluster(values.text("initial-cluster")).map_err(OptionsError::Cluster)?
    } else {
        urls.advertise_peer
            .iter()
            .map(|url| (name.to_owned(), url.clone()))
            .collect()
    };
    let peers: Vec<Url> = initial_cluster.iter().map(|(_, url)| url.clone()).collect();
    refuse_secure(&peers, "initial-cluster")?;
    let interval = values.duration("backend-batch-interval").as_millis();
    Ok(Config {
        name: name.to_owned(),
        data_dir: data_dir(values),
        wal_dir: match values.text("wal-dir") {
            "" => None,
            dir => Some(PathBuf::from(dir)),
        },
        listen_peer_urls: urls.listen_peer.clone(),
        initial_advertise_peer_urls: urls.advertise_peer.clone(),
        advertise_client_urls: urls.advertise_client.clone(),
        initial_cluster,
        initial_cluster_state: match values.text("initial-cluster-state") {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        must_be_vouched_for: false,
        initial_cluster_token: values.text("initial-cluster-token").to_owned(),
        strict_reconfig_check: values.boolean("strict-reconfig-check"),
        force_new_cluster: values.boolean("force-new-cluster"),
        heartbeat_ms: values.count("heartbeat-interval"),
        election_ms: values.count("election-timeout"),
        initial_election_tick_advance: values.boolean("initial-election-tick-advance"),
        pre_vote: values.boolean("pre-vote"),
        snapshot_count: match values.count("snapshot-count") {
            0 => SNAPSHOT_COUNT_DEFAULT,
            count => count,
        },
        snapshot_catchup_entries: values.count("snapshot-catchup-entries"),
        quota_bytes: quota_bytes(values.signed("quota-backend-bytes")),
        max_txn_ops: values.size("max-txn-ops"),
        max_request_bytes: values.size("max-request-bytes"),
        max_concurrent_streams: values.count32("max-concurrent-streams"),
        command_line: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        access: access(values)?,
        enable_v2: values.boolean("enable-v2"),
        v2_ttl_grace_ms: u64::try_from(values.duration("v2-ttl-grace").as_millis())
            .unwrap_or(u64::MAX),
        storage_engine: match values.text("storage-engine") {
            "sled" => StorageEngine::Sled,
            "memory" => StorageEngine::Memory,
            _ => StorageEngine::Lmdb,
        },
        flush_interval_ms: match u64::try_from(interval).unwrap_or(u64::MAX) {
            0 => 100,
            interval => interval,
        },
        flush_records: match values.size("backend-batch-limit") {
            0 => 10_000,
            records => records,
        },
        unsafe_no_fsync: values.boolean("unsafe-no-fsync"),
    })
}

/// As etcd: 0 is the default.
const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;

/// etcd: 0 is the default, a negative number is no quota.
fn quota_bytes(given: i64) -> u64 {
    match given {
        0 => QUOTA_BYTES_DEFAULT,
        given => u64::try_from(given).unwrap_or(u64::MAX),
    }
}

/// What the log needs, which is read first so that every later error is logged as asked.
pub(crate) fn log_options(values: &Values) -> Result<LogOptions, String> {
    let outputs = match values.text("log-output") {
        "" => values.text("log-outputs"),
        old => old,
    };
    let level = if values.boolean("debug") {
        "debug"
    } else {
        values.text("log-level")
    };
    LogOptions::parse(
        values.text("log-format"),
        values.text("logger"),
        outputs,
        level,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::syntax::{Parsed, parse};

    fn options(line: &str) -> Result<MemberOptions, OptionsError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(Parsed::Member(values)) => MemberOptions::from_values(&values),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(line: &str, text: &str) {
        let error = options(line).expect_err(line).to_string();
        assert!(error.contains(text), "{error}");
    }

    #[test]
    fn defaults_are_etcds() {
        let options = options("").expect("no flags, no faults");
        let config = &options.config;
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(options.listeners.urls, [Url::http("localhost", 2379)]);
        assert_eq!(options.listeners.spare, [Url::http("localhost", 4001)]);
        assert_eq!(config.advertise_client_urls, [Url::http("localhost", 2379)]);
        assert_eq!(config.quota_bytes, QUOTA_BYTES_DEFAULT);
        assert_eq!(
            (config.flush_interval_ms, config.flush_records),
            (100, 10_000)
        );
        assert!(options.warnings.is_empty());
    }

    /// Every origin got "*", whatever `--cors` listed.
    #[test]
    fn origins_and_hosts_are_taken_as_listed() {
        let listed = options("--cors https://ui.example:443 --host-whitelist a,b").expect("good");
        let origins = vec!["https://ui.example:443".to_owned()];
        let hosts = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(listed.config.access, Access::new(origins, hosts));
        let all = options("--cors * --host-whitelist *").expect("good");
        assert_eq!(all.config.access, Access::default());
        for wrong in ["ui.example", "https://", "https://ui.example/page", "null"] {
            refused(&format!("--cors {wrong}"), "in --cors is no origin");
        }
    }

    #[test]
    fn no_flag_on_which_safety_hangs_is_ignored() {
        for flag in [
            "--enable-grpc-gateway=false",
            "--discovery-insecure-transport=false",
            "--corrupt-check-time 1h",
            "--experimental-initial-corrupt-check",
            "--experimental-compact-hash-check-enabled",
            "--feature-gates InitialCorruptCheck=true",
        ] {
            refused(flag, "is not supported yet; ");
        }
        let defaults = "--enable-grpc-gateway --corrupt-check-time 0s --feature-gates=";
        assert!(options(defaults).expect("no change").warnings.is_empty());
    }

    #[test]
    fn the_name_alone_makes_a_cluster_of_one() {
        let config = options("--name m1 --data-dir d --wal-dir w")
            .expect("good")
            .config;
        assert_eq!(
            config.initial_cluster,
            [("m1".to_owned(), Url::http("localhost", 2380))]
        );
        assert_eq!(config.wal_dir, Some(PathBuf::from("w")));
        assert_eq!(config.verify_bootstrap(|_, _| false), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        refused(
            "--listen-client-urls http://127.0.0.1:1",
            "--advertise-client-urls is required",
        );
        refused(
            "--listen-client-urls http://example.com:1 --advertise-client-urls http://a:1",
            "expected IP in URL for binding (http://example.com:1)",
        );
        refused("--heartbeat-interval 300", "at least as 5 times");
        refused(
            "--initial-cluster nourl",
            "error setting up initial cluster",
        );
        refused(
            "--auto-compaction-mode foo",
            "unknown auto-compaction-mode \"foo\"",
        );
        refused("--listen-peer-urls https://127.0.0.1:1", "needs TLS");
        refused("--initial-cluster default=https://127.0.0.1:1", "needs TLS");
        for flag in ["peer-cert-file x", "auto-tls"] {
            refused(&format!("--{flag}"), "is not supported yet; ");
        }
    }

    /// It was taken with a warning, and the history filled the quota.
    #[test]
    fn automatic_compaction_is_refused_unless_it_is_off() {
        for flag in ["auto-compaction", "experimental-auto-compaction"] {
            for on in ["1", "8h", "10000"] {
                let line = format!("--{flag}-retention {on}");
                refused(&line, "is not supported yet; leave the flag out and run");
            }
            for off in ["0", "0h", "0m0s", ""] {
                let line = format!("--auto-compaction-mode periodic --{flag}-retention={off}");
                assert!(options(&line).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn what_has_no_effect_is_said_and_defaults_are_not() {
        let options = options("--max-wals 7 --max-snapshots 5 --auto-tls=false").expect("good");
        assert_eq!(
            options.warnings,
            ["--max-wals is accepted but has no effect yet"]
        );
    }

    #[test]
    fn snapshot_count_zero_is_the_default() {
        let options = options("--snapshot-count 0").expect("etcd takes it");
        assert_eq!(options.config.snapshot_count, SNAPSHOT_COUNT_DEFAULT);
    }

    #[test]
    fn quota_zero_is_the_default_and_negative_is_none() {
        for (given, bytes) in [("0", QUOTA_BYTES_DEFAULT), ("-1", u64::MAX), ("77", 77)] {
            let line = format!("--quota-backend-bytes {given}");
            assert_eq!(options(&line).expect("good").config.quota_bytes, bytes);
        }
    }

    // Deis's test-etcd image sets ETCD_ADDR.
    #[test]
    fn addr_of_etcd_0_4_advertises_and_listens_everywhere() {
        let options = options("--addr 10.0.0.1:4001").expect("good");
        assert_eq!(
            options.config.advertise_client_urls,
            [Url::http("10.0.0.1", 4001)]
        );
        assert_eq!(options.listeners.urls, [Url::http("0.0.0.0", 4001)]);
    }

    #[test]
    fn deis_hosts_listen_on_two_ports_each() {
        let options = options(
            "--name m1 --listen-client-urls http://0.0.0.0:2379,http://0.0.0.0:4001 \
             --advertise-client-urls http://10.0.0.1:2379 \
             --initial-advertise-peer-urls http://10.0.0.1:2380 \
             --listen-peer-urls http://10.0.0.1:2380,http://10.0.0.1:7001 \
             --initial-cluster m1=http://10.0.0.1:2380 --data-dir /var/lib/etcd2",
        )
        .expect("what Deis gives");
        assert_eq!(options.listeners.urls.len(), 2);
        assert_eq!(options.config.listen_peer_urls.len(), 2);
        assert_eq!(options.config.verify_bootstrap(|_, _| false), Ok(()));
    }
}
