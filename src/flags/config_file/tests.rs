//! Files as etcd 3.4.23 and 3.5.1 read them.

use std::time::Duration;

use super::*;

fn loaded(text: &str) -> Loaded {
    parse("m.yml", text).expect(text)
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse("m.yml", text).expect_err(text).to_string();
    assert_eq!(error, expected);
}

/// The keys of etcd's `etcd.conf.yml.sample`, in its forms.
const SAMPLE: &str = "\
name: 'default'
data-dir:
snapshot-count: 10000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
cors:
discovery-fallback: 'proxy'
initial-cluster-token: 'etcd-cluster'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-read-timeout: 0
client-transport-security:
  cert-file:
  client-cert-auth: false
  auto-tls: false
peer-transport-security:
  # Path to the peer server TLS trusted CA cert file.
  trusted-ca-file:
  auto-tls: true
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-max-version: 'TLS1.3'
";

#[test]
fn etcds_sample_is_read_without_a_warning() {
    let Loaded { values, warnings } = loaded(SAMPLE);
    assert_eq!(warnings, Vec::<String>::new());
    assert!(!values.is_given("data-dir") && !values.is_given("cert-file"));
    assert!(!values.boolean("strict-reconfig-check") && values.boolean("peer-auto-tls"));
    assert_eq!(values.source("proxy"), Some(Source::ConfigFile));
    assert_eq!(values.text("log-outputs"), "stderr");
    let suites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
    assert_eq!(values.text("cipher-suites"), suites);
}

#[test]
fn values_are_written_as_etcd_or_as_flags_write_them() {
    let values = loaded(
        "grpc-keepalive-min-time: 5000000000\nwarning-apply-duration: 250ms\nmax-wals: 1_000\n\
         corrupt-check-time: 0\nproxy: off\npre-vote: no\nlog-outputs: [stdout, /var/log/m.log]\n\
         listen-client-urls: [http://127.0.0.1:1, http://127.0.0.1:2]\n\
         auto-compaction-retention: 8\n\
         quota-backend-bytes: -1\ndata-dir: ''\ninitial-cluster: ''\n",
    )
    .values;
    let seconds = Duration::from_secs(5);
    assert_eq!(values.duration("grpc-keepalive-min-time"), seconds);
    let quarter = Duration::from_millis(250);
    assert_eq!(values.duration("warning-apply-duration"), quarter);
    assert_eq!(values.count("max-wals"), 1000);
    assert_eq!(values.text("proxy"), "off");
    assert!(!values.boolean("pre-vote"));
    assert_eq!(values.text("log-outputs"), "stdout,/var/log/m.log");
    assert_eq!(values.urls("listen-client-urls").len(), 2);
    assert_eq!(values.text("auto-compaction-retention"), "8");
    assert_eq!(values.signed("quota-backend-bytes"), -1);
    assert_eq!(values.text("data-dir"), "");
    assert!(!values.is_given("initial-cluster"));
}

#[test]
fn sections_are_flags_of_tls_and_discovery() {
    let values = loaded(
        "client-transport-security: &tls\n  cert-file: a\n  key-file: b\n  client-crl-file: c\n\
         peer-transport-security:\n  <<: *tls\n  key-file: d\n  allowed-cn: [e, f]\n\
         discovery-config:\n  endpoints: [g:1, h:2]\n  token: i\n  secure: {cacert: j}\n\
         socket-options: {reuse-address: true}\n",
    )
    .values;
    for (name, text) in [
        ("cert-file", "a"),
        ("client-crl-file", "c"),
        ("peer-cert-file", "a"),
        ("peer-key-file", "d"),
        ("peer-cert-allowed-cn", "e,f"),
        ("discovery-endpoints", "g:1,h:2"),
        ("discovery-cacert", "j"),
        ("socket-reuse-address", "true"),
    ] {
        assert_eq!(values.text(name), text, "{name}");
    }
}

#[test]
fn a_json_file_is_one_too() {
    let values = loaded("{\"name\": \"m1\", \"max-txn-ops\": 256, \"Pre-Vote\": false}").values;
    assert_eq!(values.text("name"), "m1");
    assert_eq!(values.count("max-txn-ops"), 256);
    assert!(!values.boolean("pre-vote"));
    assert!(loaded("").warnings.is_empty() && loaded("---\n").warnings.is_empty());
}

#[test]
fn what_is_ignored_is_warned_of_by_name() {
    let text =
        "nosuch: 1\nname: a\nname: b\npeer-transport-security: {nosuch: 2}\nconfig-file: x\n";
    let Loaded { values, warnings } = loaded(text);
    assert_eq!(values.text("name"), "b");
    let expected = [
        "m.yml: line 1: nosuch: unknown key, ignored",
        "m.yml: line 3: name: replaces the value of line 2",
        "m.yml: line 4: peer-transport-security.nosuch: unknown key, ignored",
        "m.yml: line 5: config-file: unknown key, ignored",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn faults_name_file_line_and_key() {
    refused(
        "name: a\nmax-wals: foo\n",
        "m.yml: line 2: max-wals: invalid value \"foo\": parse error; \
         write a whole number, e.g. 5",
    );
    refused(
        "listen-client-urls: foo",
        "m.yml: line 1: listen-client-urls: invalid value \"foo\": \
         URL scheme must be http, https, unix, or unixs: foo",
    );
    refused(
        "\ninitial-cluster-state: maybe",
        "m.yml: line 2: initial-cluster-state: invalid value \"maybe\": \
         invalid value, choose one of new, existing",
    );
    refused(
        "pre-vote: [true]",
        "m.yml: line 1: pre-vote: the value must not be a list",
    );
    refused(
        "client-transport-security: true",
        "m.yml: line 1: client-transport-security: the value must be keys with values of their own",
    );
    refused(
        "client-transport-security:\n  allowed-cn: [a]",
        "m.yml: line 2: client-transport-security.allowed-cn: is not supported: \
         without it more clients would be admitted",
    );
    refused(
        "just words",
        "m.yml: line 1: configuration: the file must be keys with values, as in \"name: m1\"",
    );
    let error = parse("m.yml", "a: [\n").expect_err("no YAML").to_string();
    let etcds = "error converting YAML to JSON: yaml: line ";
    assert!(
        error.starts_with(etcds) && error.ends_with(" (in m.yml)"),
        "{error}"
    );
    let error = load("/nosuch/m.yml").expect_err("no file").to_string();
    assert_eq!(error, "open /nosuch/m.yml: no such file or directory");
}
