//! Flags of TLS and authentication: none of them is ignored silently.

use super::{Effect::*, Flag, Group, Kind::*, group};

group! { SECURITY, "Security",
    "cert-file", Text, "", Works =>
        "Path to the client server TLS cert file.";
    "key-file", Text, "", Works =>
        "Path to the client server TLS key file.";
    "client-cert-auth", Bool, "false", Works =>
        "Enable client cert authentication.";
    "client-cert-file", Text, "", Works =>
        "Path to an explicit client TLS cert file.";
    "client-key-file", Text, "", Works =>
        "Path to an explicit client TLS key file.";
    "client-crl-file", Text, "", Works =>
        "Path to the client certificate revocation list file.";
    "client-cert-allowed-hostname", Text, "", Works =>
        "Comma-separated list of SAN hostnames for client cert authentication.";
    "trusted-ca-file", Text, "", Works =>
        "Path to the client server TLS trusted CA cert file.";
    "ca-file", Text, "", Works =>
        "Old name of --trusted-ca-file with --client-cert-auth.";
    "auto-tls", Bool, "false", Works =>
        "Client TLS using generated certificates.";
    "peer-cert-file", Text, "", Works =>
        "Path to the peer server TLS cert file.";
    "peer-key-file", Text, "", Works =>
        "Path to the peer server TLS key file.";
    "peer-client-cert-auth", Bool, "false", Works =>
        "Enable peer client cert authentication.";
    "peer-client-cert-file", Text, "", Works =>
        "Path to an explicit peer client TLS cert file.";
    "peer-client-key-file", Text, "", Works =>
        "Path to an explicit peer client TLS key file.";
    "peer-trusted-ca-file", Text, "", Works =>
        "Path to the peer server TLS trusted CA file.";
    "peer-ca-file", Text, "", Works =>
        "Old name of --peer-trusted-ca-file with --peer-client-cert-auth.";
    "peer-cert-allowed-cn", Text, "", Works =>
        "Comma-separated list of allowed CNs for inter-peer TLS authentication.";
    "peer-cert-allowed-hostname", Text, "", Works =>
        "Comma-separated list of allowed SAN hostnames for inter-peer TLS authentication.";
    "peer-auto-tls", Bool, "false", Works =>
        "Peer TLS using self-generated certificates.";
    "self-signed-cert-validity", Count, "1", Works =>
        "Validity (in years) of generated certificates.";
    "peer-crl-file", Text, "", Works =>
        "Path to the peer certificate revocation list file.";
    "peer-skip-client-san-verification", Bool, "false", Works =>
        "Skip verification of SAN field in client certificate for peer connections.";
    "cipher-suites", Text, "", Works =>
        "Comma-separated list of supported TLS cipher suites.";
    "tls-min-version", Text, "TLS1.2", Works =>
        "Minimum TLS version supported.";
    "tls-max-version", Text, "", Works =>
        "Maximum TLS version supported.";
    "cors", Text, "*", Works =>
        "Comma-separated whitelist of origins for CORS (empty or * means allow all).";
    "host-whitelist", Text, "*", Works =>
        "Acceptable hostnames from HTTP client requests without TLS (empty or * means allow all).";
}

group! { AUTH, "Auth",
    "auth-token", Text, "simple", Works =>
        "Specify a v3 authentication token type and its options ('simple' or 'jwt').";
    "bcrypt-cost", Count, "10", Works =>
        "Cost of the bcrypt algorithm for hashing auth passwords, between 4 and 31.";
    "auth-token-ttl", Count, "300", Works =>
        "Time (in seconds) of the auth-token-ttl.";
}
