//! The nested keys of etcd's configuration file, and the flags that they are.

/// `(section, [(key, flag)])`; a section in a section has a dot. Names are etcd's, of any version
/// from 3.4 to 3.7.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("ca-file", "ca-file"),
            ("auto-tls", "auto-tls"),
            ("client-crl-file", "client-crl-file"),
            ("crl-file", "client-crl-file"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("ca-file", "peer-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("client-crl-file", "peer-crl-file"),
            ("crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    ),
    (
        "socket-options",
        &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
    ),
    (
        "discovery-config",
        &[
            ("token", "discovery-token"),
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
        ],
    ),
    (
        "discovery-config.secure",
        &[
            ("cert", "discovery-cert"),
            ("key", "discovery-key"),
            ("cacert", "discovery-cacert"),
            ("insecure-transport", "discovery-insecure-transport"),
            (
                "insecure-skip-tls-verify",
                "discovery-insecure-skip-tls-verify",
            ),
        ],
    ),
    (
        "discovery-config.auth",
        &[
            ("username", "discovery-user"),
            ("password", "discovery-password"),
        ],
    ),
];

/// Keys that restrict access and that no flag stands for: to ignore one would admit more callers
/// than the file does.
const RESTRICTIONS: &[&str] = &["client-transport-security.allowed-cn"];

/// Whether the path is that of a section.
pub(super) fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|(name, _)| same(name, path))
}

/// Whether a key without a flag must not be ignored.
pub(super) fn is_restriction(path: &str) -> bool {
    RESTRICTIONS.iter().any(|name| same(name, path))
}

/// The flag of the key at a path. As in etcd, upper and lower case are the same.
pub(super) fn flag_of(path: &str) -> Option<&'static super::super::Flag> {
    let name = match path.rsplit_once('.') {
        Some((section, key)) => {
            let keys = SECTIONS.iter().find(|(name, _)| same(name, section))?.1;
            keys.iter().find(|(name, _)| same(name, key))?.1
        }
        None => path,
    };
    // A file names no other file.
    super::super::all().find(|flag| same(flag.name, name) && flag.name != "config-file")
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nested_key_is_a_flag() {
        for (section, keys) in SECTIONS {
            for (key, name) in *keys {
                let flag = flag_of(&format!("{section}.{key}"));
                assert_eq!(flag.map(|flag| flag.name), Some(*name), "{section}.{key}");
            }
        }
        assert_eq!(flag_of("Max-Wals").map(|flag| flag.name), Some("max-wals"));
        assert!(flag_of("config-file").is_none() && flag_of("nosuch.key").is_none());
    }
}
