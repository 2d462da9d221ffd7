//! From the values given to the options of a member or proxy, with every check that etcd makes
//! before it starts.

mod addresses;
mod compaction;
mod corruption;
mod error;
mod host;
mod rates;
mod space;
#[cfg(test)]
mod tests;
mod traces;

use std::path::PathBuf;
use std::time::Duration;

use keelson_store::Config;
use keelson_store::config::{
    COMMAND_VERSION, InitialClusterState, PeerTlsFiles, StorageEngine, Url, check_bindable,
};
use keelson_store::edge::Access;

pub(crate) use self::addresses::ClientListeners;
use self::addresses::{Addresses, optional_urls};
use self::compaction::auto_compaction;
use self::corruption::{corruption, gates_without_effect, refuse_unusual_times};
pub(crate) use self::error::OptionsError;
pub(crate) use self::host::{Bootstrap, ClusterList, HostOptions, ProxyTimes};
use self::rates::rate_limits;
use self::space::{bootstrap_defrag_bytes, quota_bytes};
use self::traces::{of_members_only, tracing};
use crate::flags::{self, Effect, Values, parse_cluster};
use crate::host::{BackupPlan, BackupTarget};
use crate::logging::LogOptions;
use crate::options_jwt::jwt;
use crate::options_tls::{self, SelfSigned, Upstream};

/// The names of scheduled snapshots have seconds.
const BACKUP_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// All that `src/` needs to start a member.
#[derive(Debug)]
pub(crate) struct MemberOptions {
    /// The configuration of the store.
    pub(crate) config: Config,
    /// The client listeners; `src/` binds them, not the store.
    pub(crate) listeners: ClientListeners,
    /// The certificate of the peer port that is to be made first.
    pub(crate) self_signed: Option<SelfSigned>,
    /// `--listen-metrics-urls`.
    pub(crate) metrics_urls: Vec<Url>,
    /// The scheduled snapshots.
    pub(crate) backup: Option<BackupPlan>,
    /// Warnings to log once the log is open.
    pub(crate) warnings: Vec<String>,
}

/// All that `src/` needs to start a proxy.
#[derive(Debug)]
pub(crate) struct ProxyOptions {
    /// `--data-dir`, which records that this host is a proxy.
    pub(crate) data_dir: PathBuf,
    /// The client listeners.
    pub(crate) listeners: ClientListeners,
    /// The certificate presented to members, and the CAs to verify them with.
    pub(crate) upstream: Upstream,
    /// `--max-concurrent-streams` of one connection.
    pub(crate) max_concurrent_streams: u32,
    /// `--cors` and `--host-whitelist`.
    pub(crate) access: Access,
    /// Its times.
    pub(crate) times: ProxyTimes,
    /// Warnings to log once the log is open.
    pub(crate) warnings: Vec<String>,
}

impl ProxyOptions {
    /// Checks and converts the values.
    pub(crate) fn from_values(values: &Values) -> Result<ProxyOptions, OptionsError> {
        refuse_unsupported(values)?;
        let urls = Addresses::from_values(values)?;
        check_bindable(&urls.listen_client)?;
        let mut warnings = without_effect(values);
        warnings.extend(options_tls::unserved_suites(values));
        warnings.extend(of_members_only(values));
        if values.is_given("listen-metrics-urls") {
            let why = "a proxy serves /metrics on --listen-client-urls";
            warnings.push(format!("--listen-metrics-urls has no effect: {why}"));
        }
        warnings.extend(rates::unlimited_proxy(values));
        Ok(ProxyOptions {
            data_dir: data_dir(values),
            listeners: ClientListeners::from_values(
                values,
                &urls.listen_client,
                &[],
                &mut warnings,
            )?,
            upstream: Upstream::from_values(values)?,
            max_concurrent_streams: values.count32("max-concurrent-streams"),
            access: access(values)?,
            times: ProxyTimes::from_values(values),
            warnings,
        })
    }
}

impl MemberOptions {
    /// Checks and converts the values.
    pub(crate) fn from_values(values: &Values) -> Result<MemberOptions, OptionsError> {
        refuse_unsupported(values)?;
        refuse_unusual_times(values)?;
        let urls = Addresses::from_values(values)?;
        check_bindable(&urls.listen_client)?;
        let mut warnings = without_effect(values);
        warnings.extend(options_tls::unserved_suites(values));
        let (peer_tls, self_signed) =
            options_tls::peer_tls(values, &urls.listen_peer, &mut warnings)?;
        warnings.extend(options_tls::open_to_all(&urls.listen_peer, &peer_tls));
        warnings.extend(rates::bursts_without_limit(values));
        let metrics = optional_urls(values, "listen-metrics-urls")?;
        let mut config = config(values, &urls)?;
        config.peer_tls = peer_tls;
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
            backup: backup(values)?,
            listeners: ClientListeners::from_values(
                values,
                &urls.listen_client,
                &metrics,
                &mut warnings,
            )?,
            self_signed,
            metrics_urls: metrics,
            warnings,
        })
    }
}

/// The scheduled snapshots, if there are to be any.
fn backup(values: &Values) -> Result<Option<BackupPlan>, OptionsError> {
    let (interval, keep) = (
        values.duration("backup-interval"),
        values.size("backup-keep"),
    );
    if interval < BACKUP_INTERVAL_MIN || keep == 0 {
        return Err(OptionsError::Backup);
    }
    Ok(match values.text("backup-dir") {
        "" => None,
        place => Some(BackupPlan {
            target: BackupTarget::parse(place).map_err(OptionsError::BackupTarget)?,
            interval,
            keep,
        }),
    })
}

/// Whether the host may turn out to be a proxy, which advertises nothing.
fn may_be_proxy(values: &Values) -> bool {
    let falls_back = values.text("discovery-fallback") == "proxy";
    values.text("proxy") != "off"
        || ((values.is_given("discovery") || values.is_given("discovery-token")) && falls_back)
}

/// `--data-dir`, or etcd's default, which contains the member's name.
pub(crate) fn data_dir(values: &Values) -> PathBuf {
    match values.text("data-dir") {
        "" => PathBuf::from(format!("{}.etcd", name(values))),
        dir => PathBuf::from(dir),
    }
}

/// `--wal-dir`.
pub(crate) fn wal_dir(values: &Values) -> Option<PathBuf> {
    match values.text("wal-dir") {
        "" => None,
        dir => Some(PathBuf::from(dir)),
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

/// Refuses unsupported flags.
fn refuse_unsupported(values: &Values) -> Result<(), OptionsError> {
    for flag in flags::all() {
        if let Effect::Unsupported(remedy) = flag.effect
            && values.is_changed(flag)
        {
            return Err(OptionsError::Unsupported(flag.name, remedy));
        }
    }
    Ok(())
}

fn without_effect(values: &Values) -> Vec<String> {
    let changed = flags::all().filter(|flag| values.is_changed(flag));
    let reasons = changed.filter_map(|flag| match flag.effect {
        Effect::Inert(reason) => Some((flag.name, reason)),
        Effect::Ignored => Some((flag.name, "etcd ignores it too")),
        Effect::Works | Effect::Unsupported(_) => None,
    });
    reasons
        .map(|(name, reason)| format!("--{name} has no effect: {reason}"))
        .chain(gates_without_effect(values))
        .collect()
}

/// The names and peer URLs of the founders.
fn initial_cluster(values: &Values, urls: &Addresses) -> Result<Vec<(String, Url)>, OptionsError> {
    let founders = if values.is_given("initial-cluster") {
        parse_cluster(values.text("initial-cluster")).map_err(OptionsError::Cluster)?
    } else {
        urls.advertise_peer
            .iter()
            .map(|url| (name(values).to_owned(), url.clone()))
            .collect()
    };
    Ok(founders)
}

fn config(values: &Values, urls: &Addresses) -> Result<Config, OptionsError> {
    let name = name(values);
    let initial_cluster = initial_cluster(values, urls)?;
    let interval = values.duration("backend-batch-interval").as_millis();
    Ok(Config {
        name: name.to_owned(),
        data_dir: data_dir(values),
        wal_dir: wal_dir(values),
        listen_peer_urls: urls.listen_peer.clone(),
        initial_advertise_peer_urls: urls.advertise_peer.clone(),
        peer_tls: PeerTlsFiles::default(),
        advertise_client_urls: urls.advertise_client.clone(),
        initial_cluster,
        initial_cluster_state: match values.text("initial-cluster-state") {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        must_be_vouched_for: false,
        initial_cluster_token: values.text("initial-cluster-token").to_owned(),
        strict_reconfig_check: values.boolean("strict-reconfig-check"),
        max_learners: values.size(newest(values, "max-learners")),
        force_new_cluster: values.boolean("force-new-cluster"),
        heartbeat_ms: values.count("heartbeat-interval"),
        election_ms: values.count("election-timeout"),
        initial_election_tick_advance: values.boolean("initial-election-tick-advance"),
        pre_vote: values.boolean("pre-vote"),
        snapshot_count: match values.count("snapshot-count") {
            0 => SNAPSHOT_COUNT_DEFAULT,
            count => count,
        },
        snapshot_catchup_entries: values.count(newest(values, "snapshot-catchup-entries")),
        quota_bytes: quota_bytes(values),
        corruption: corruption(values)?,
        bootstrap_defrag_bytes: bootstrap_defrag_bytes(values),
        auto_compaction: auto_compaction(values)?,
        max_txn_ops: values.size("max-txn-ops"),
        watch_progress_interval_ms: ms(values, newest(values, "watch-progress-notify-interval")),
        client_cert_auth: values.boolean("client-cert-auth") || !values.text("ca-file").is_empty(),
        auth_token_ttl_s: values.count("auth-token-ttl"),
        jwt: jwt(values.text("auth-token"))?,
        bcrypt_cost: bcrypt_cost(values.count("bcrypt-cost")),
        max_request_bytes: values.size("max-request-bytes"),
        max_concurrent_streams: values.count32("max-concurrent-streams"),
        rate_limits: rate_limits(values),
        grpc_keepalive_min_ms: ms(values, "grpc-keepalive-min-time"),
        grpc_keepalive_interval_ms: ms(values, "grpc-keepalive-interval"),
        grpc_keepalive_timeout_ms: ms(values, "grpc-keepalive-timeout"),
        warning_unary_request_ms: ms(values, newest(values, "warning-unary-request-duration")),
        warning_apply_ms: ms(values, newest(values, "warning-apply-duration")),
        extensive_metrics: values.text("metrics") == "extensive",
        tracing: tracing(values)?,
        enable_pprof: values.boolean("enable-pprof"),
        command_line: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        access: access(values)?,
        enable_v2: values.boolean("enable-v2"),
        v2_ttl_grace_ms: ms(values, "v2-ttl-grace"),
        storage_engine: StorageEngine::from_name(values.text("storage-engine"))
            .unwrap_or(StorageEngine::DEFAULT),
        flush_interval_ms: match u64::try_from(interval).unwrap_or(u64::MAX) {
            0 => 100,
            interval => interval,
        },
        flush_records: or_default(values.size("backend-batch-limit"), 10_000),
        unsafe_no_fsync: values.boolean("unsafe-no-fsync"),
        command_version: COMMAND_VERSION,
    })
}

/// The flag's value, or the default in place of 0.
fn or_default(value: usize, default: usize) -> usize {
    match value {
        0 => default,
        value => value,
    }
}

/// The cost of bcrypt hashes. As in etcd, one that bcrypt does not have is replaced by the default.
fn bcrypt_cost(cost: u64) -> u32 {
    match u32::try_from(cost) {
        Ok(cost @ 4..=31) => cost,
        _ => {
            tracing::warn!(cost, "--bcrypt-cost is not between 4 and 31: using 10");
            10
        }
    }
}

/// A duration in milliseconds. A part of one counts as a whole: 0 has a meaning of its own.
fn ms(values: &Values, name: &'static str) -> u64 {
    let nanos = values.duration(name).as_nanos();
    u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The flag, or its experimental name of earlier releases if only that is given.
fn newest(values: &Values, name: &'static str) -> &'static str {
    let experimental = flags::find(&format!("experimental-{name}"));
    match experimental.filter(|old| values.is_given(old.name) && !values.is_given(name)) {
        Some(old) => old.name,
        None => name,
    }
}

/// As etcd: 0 is the default.
const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;

/// The options of the log, which is opened first so that later errors are logged as requested.
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
    let options = LogOptions::parse(
        values.text("log-format"),
        values.text("logger"),
        outputs,
        level,
    )?;
    match values.boolean("enable-log-rotation") {
        true => options.with_rotation(values.text("log-rotation-config-json")),
        false => Ok(options),
    }
}
