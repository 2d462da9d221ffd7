//! Command lines, and the options that a member or proxy gets from them.

use keelson_store::config::AutoCompaction;

use keelson_store::config::{QUOTA_BYTES_DEFAULT, TracingConfig};

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

#[test]
fn traces_have_the_flags_of_etcd_under_both_names() {
    let tracing = |line: &str| options(line).map(|options| options.config.tracing);
    assert_eq!(tracing("").expect("the default"), None);
    assert_eq!(
        tracing("--distributed-tracing-address c:1").expect("off"),
        None
    );
    let defaults = tracing("--enable-distributed-tracing").expect("good");
    let expected = TracingConfig {
        address: "localhost:4317".to_owned(),
        service_name: "etcd".to_owned(),
        instance_id: String::new(),
        samples_per_million: 0,
    };
    assert_eq!(defaults, Some(expected.clone()));
    let old = "--experimental-enable-distributed-tracing \
               --experimental-distributed-tracing-address c:1 \
               --experimental-distributed-tracing-service-name s \
               --experimental-distributed-tracing-instance-id i \
               --experimental-distributed-tracing-sampling-rate 1000000";
    for line in [old, &old.replace("experimental-", "")] {
        let expected = TracingConfig {
            address: "c:1".to_owned(),
            service_name: "s".to_owned(),
            instance_id: "i".to_owned(),
            samples_per_million: 1_000_000,
        };
        assert_eq!(tracing(line).expect(line), Some(expected));
    }
    let rate = "--distributed-tracing-sampling-rate 1000001";
    assert_eq!(tracing(rate).expect("off"), None);
    refused(
        &format!("--enable-distributed-tracing {rate}"),
        "tracing sampling rate must be less than 1000000",
    );
    for address in ["collector", "http://c:4317", "c:4317/v1"] {
        let line = format!("--enable-distributed-tracing --distributed-tracing-address {address}");
        refused(&line, "write the collector's host:port");
    }
}

/// Every origin got "*", in spite of `--cors`.
#[test]
fn origins_and_hosts_are_taken_as_listed() {
    let listed = options("--cors https://ui.example:443 --host-whitelist a,b").expect("good");
    let origins = vec!["https://ui.example:443".to_owned()];
    let hosts = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(listed.config.access, Access::new(origins, hosts));
    let all = options("--cors * --host-whitelist *").expect("good");
    assert_eq!(all.config.access, Access::default());
    for wrong in ["ui.example", "https://", "https://ui.example/page", "null"] {
        refused(&format!("--cors {wrong}"), "in --cors is not an origin");
    }
}

#[test]
fn no_flag_on_which_safety_hangs_is_ignored() {
    for flag in [
        "--enable-grpc-gateway=false",
        "--discovery-user root:pw",
        "--feature-gates PriorityRequest=true",
    ] {
        refused(flag, "is not supported yet; ");
    }
    let defaults = "--enable-grpc-gateway --corrupt-check-time 0s --feature-gates=";
    assert!(options(defaults).expect("no change").warnings.is_empty());
}

#[test]
fn the_checks_for_corruption_have_etcds_flags_and_gates() {
    let checks = |line: &str| {
        let checks = options(line).expect("good").config.corruption;
        (checks.at_start, checks.periodic_ms, checks.compactions_ms)
    };
    assert_eq!(checks("--compact-hash-check-time 5s"), (false, 0, 0));
    let gates = "--feature-gates InitialCorruptCheck=true,CompactHashCheck=true";
    assert_eq!(checks(gates), (true, 0, 60_000));
    let old = "--experimental-initial-corrupt-check --experimental-corrupt-check-time 2s \
               --experimental-compact-hash-check-enabled --experimental-compact-hash-check-time 3s";
    assert_eq!(checks(old), (true, 2_000, 3_000));
    let line = "--corrupt-check-time 1m --feature-gates AllAlpha=false";
    assert_eq!(checks(line), (false, 60_000, 0));
    let inert = options("--feature-gates TxnModeWriteWithSharedBuffer=true").expect("good");
    assert!(
        inert
            .warnings
            .iter()
            .any(|line| line.contains("has no effect"))
    );
    for wrong in ["Foo=true", "InitialCorruptCheck", "CompactHashCheck=yes"] {
        refused(
            &format!("--feature-gates {wrong}"),
            "unrecognized feature gate",
        );
    }
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
    refused(
        "--listen-peer-urls https://127.0.0.1:1",
        "cannot listen on TLS for https://127.0.0.1:1: KeyFile and CertFile are not presented; \
         give --peer-cert-file",
    );
    refused(
        "--peer-cert-file x",
        "--peer-cert-file and --peer-key-file must be given together",
    );
    refused("--cipher-suites foo", "unexpected TLS cipher suite \"foo\"");
}

#[test]
fn retentions_are_etcds() {
    let minutes = |count: u64| Some(AutoCompaction::Periodic(count * 60_000));
    let revisions = |count| Some(AutoCompaction::Revision(count));
    for (mode, text, expected) in [
        ("periodic", "0", None),
        ("periodic", "0h", None),
        ("periodic", "8", minutes(480)),
        ("periodic", "30m", minutes(30)),
        ("revision", "10000", revisions(10_000)),
        ("revision", "1us", revisions(1_000)),
        ("revision", "0", None),
    ] {
        for flag in ["auto-compaction", "experimental-auto-compaction"] {
            let line = format!("--auto-compaction-mode {mode} --{flag}-retention {text}");
            let options = options(&line).expect("a retention");
            assert_eq!(options.config.auto_compaction, expected, "{line}");
            assert!(options.warnings.is_empty());
        }
    }
    let empty = options("--auto-compaction-retention=").expect("as in etcd");
    assert_eq!(empty.config.auto_compaction, None);
    refused(
        "--auto-compaction-retention eight",
        "error parsing CompactionRetention: time: invalid duration \"eight\"",
    );
}

#[test]
fn what_has_no_effect_is_said_and_defaults_are_not() {
    let options = options("--max-wals 7 --max-snapshots 5 --auto-tls=false").expect("good");
    assert_eq!(
        options.warnings,
        [
            "--max-wals has no effect: the log is cut where the storage engine holds everything \
             before"
        ]
    );
}

#[test]
fn snapshot_count_zero_is_the_default() {
    let options = options("--snapshot-count 0").expect("etcd accepts it");
    assert_eq!(options.config.snapshot_count, SNAPSHOT_COUNT_DEFAULT);
}

/// Half a millisecond became 0.
#[test]
fn a_part_of_a_millisecond_counts_as_one_under_both_names() {
    for name in [
        "watch-progress-notify-interval",
        "experimental-watch-progress-notify-interval",
    ] {
        let config = options(&format!("--{name} 500us")).expect("good").config;
        assert_eq!(config.watch_progress_interval_ms, 1, "{name}");
    }
}

#[test]
fn the_experimental_name_counts_where_it_alone_is_given() {
    for (line, learners) in [
        ("", 1),
        ("--max-learners 3", 3),
        ("--experimental-max-learners 4", 4),
        ("--max-learners 3 --experimental-max-learners 4", 3),
    ] {
        assert_eq!(
            options(line).expect("good").config.max_learners,
            learners,
            "{line}"
        );
    }
    let line = "--experimental-warning-unary-request-duration 2s \
                --experimental-warning-apply-duration 3s";
    let config = options(line).expect("good").config;
    assert_eq!(config.warning_unary_request_ms, 2000);
    assert_eq!(config.warning_apply_ms, 3000);
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
    .expect("Deis's variables");
    assert_eq!(options.listeners.urls.len(), 2);
    assert_eq!(options.config.listen_peer_urls.len(), 2);
    assert_eq!(options.config.verify_bootstrap(|_, _| false), Ok(()));
}

/// As k3s starts its etcd.
#[test]
fn ports_for_http_are_further_client_listeners() {
    let line = "--listen-client-urls http://127.0.0.1:1 --advertise-client-urls http://127.0.0.1:1";
    let with = |http: &str| options(&format!("{line} --listen-client-http-urls {http}"));
    let listeners = with("http://127.0.0.1:1,http://127.0.0.1:2")
        .expect("good")
        .listeners;
    assert_eq!(listeners.urls, [Url::http("127.0.0.1", 1)]);
    assert_eq!(listeners.http, [Url::http("127.0.0.1", 2)]);
    with("https://127.0.0.1:2").expect_err("it needs a certificate");
    refused(
        &format!("{line} --listen-client-http-urls http://example.com:1"),
        "expected IP in URL for binding (http://example.com:1)",
    );
}

/// Which role a host gets is known only once its disk, and perhaps discovery, have been read.
#[test]
fn a_fault_in_the_options_of_the_other_role_is_no_error() {
    let host = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(Parsed::Member(values)) => HostOptions::from_values(&values),
            other => panic!("{line}: {other:?}"),
        }
    };
    let tls = "--listen-peer-urls https://10.0.0.1:2380";
    let proxy = host(&format!("--proxy on {tls}")).expect("a proxy has no peer listener");
    assert!(proxy.member.is_err() && proxy.proxy.is_ok());
    host(tls).expect_err("a member has one");
    let conflict = "--discovery http://d/t --discovery-srv example.com";
    for role in ["off", "on"] {
        let error = host(&format!("--proxy {role} {conflict}")).expect_err("two of these flags");
        assert!(matches!(error, OptionsError::Bootstrap), "{error}");
    }
}

/// Texts of etcd 3.7's `Validate`.
#[test]
fn halves_of_a_discovery_and_empty_modes_are_refused() {
    let host = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(Parsed::Member(values)) => HostOptions::from_values(&values),
            other => panic!("{line}: {other:?}"),
        }
    };
    let both = "both --discovery-token and --discovery-endpoints must be set";
    for (line, text) in [
        ("--discovery-token t", both),
        ("--discovery-endpoints 127.0.0.1:1", both),
        (
            "--discovery-token t --discovery-endpoints 127.0.0.1:1,",
            "--discovery-endpoints must not contain empty endpoints",
        ),
        ("--auto-compaction-mode=", "undefined auto-compaction-mode"),
        (
            "--compact-hash-check-time 0",
            "--compact-hash-check-time must be >0 (set to 0s)",
        ),
    ] {
        let error = host(line).expect_err(line).to_string();
        assert!(error.starts_with(text), "{line}: {error}");
    }
}
