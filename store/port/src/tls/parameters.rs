//! `--cipher-suites`, `--tls-min-version` and `--tls-max-version`.

use std::fmt;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};

/// The names that Go's library has for suites, of which only some are served here.
const GOS_SUITES: [&str; 28] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_FALLBACK_SCSV",
];

/// The versions, the better first.
static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::Tls12 => "TLS1.2",
            TlsVersion::Tls13 => "TLS1.3",
        })
    }
}

/// The versions and suites of both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsParameters {
    /// The least version.
    min: TlsVersion,
    /// TLS 1.3 is not spoken.
    without_13: bool,
    /// The suites of TLS 1.2; all if empty. Those of TLS 1.3 cannot be chosen, as in Go.
    suites: Vec<String>,
}

/// Parameters that etcd refuses. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// No version of TLS that etcd accepts.
    #[error("unexpected TLS version \"{0}\" (must be one of: TLS1.2, TLS1.3)")]
    Version(String),
    /// The versions exclude each other.
    #[error("min version ({0}) is greater than max version ({1})")]
    Order(TlsVersion, TlsVersion),
    /// No suite of Go's.
    #[error("unexpected TLS cipher suite \"{0}\"")]
    Suite(String),
    /// Go does not let the suites of TLS 1.3 be chosen.
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesOf13,
    /// Of the suites given none is served, and TLS 1.3 is excluded.
    #[error(
        "none of the --cipher-suites is served: choose from ECDHE with AES-GCM or \
         ChaCha20-Poly1305, or leave --tls-max-version out"
    )]
    NoSuite,
}

impl TlsParameters {
    /// From the flags' texts; an empty one is the default.
    ///
    /// # Errors
    /// etcd's, for a name that Go does not have, and for versions without a suite.
    pub fn parse(min: &str, max: &str, suites: &str) -> Result<TlsParameters, ParametersError> {
        let suites = suites.split(',').map(|suite| suite.trim().to_owned());
        let suites: Vec<_> = suites.filter(|suite| !suite.is_empty()).collect();
        let (min, max) = (version(min)?, version(max)?);
        if let Some(wrong) = suites.iter().find(|suite| !is_gos(suite)) {
            return Err(ParametersError::Suite(wrong.clone()));
        }
        let least = min.unwrap_or_default();
        if let Some(most) = max.filter(|most| *most < least) {
            return Err(ParametersError::Order(least, most));
        }
        if least == TlsVersion::Tls13 && !suites.is_empty() {
            return Err(ParametersError::SuitesOf13);
        }
        let parameters = TlsParameters {
            min: least,
            without_13: max == Some(TlsVersion::Tls12),
            suites,
        };
        let has_none = parameters.suites.len() == parameters.unserved().len();
        if parameters.without_13 && !parameters.suites.is_empty() && has_none {
            return Err(ParametersError::NoSuite);
        }
        Ok(parameters)
    }

    /// The suites given that are not served, for a warning.
    pub fn unserved(&self) -> Vec<&str> {
        let provider = super::provider();
        let served = |suite: &&String| {
            let of_12 = |one: &rustls::SupportedCipherSuite| one.tls13().is_none();
            let mut of_12 = provider.cipher_suites.iter().filter(|one| of_12(one));
            of_12.any(|one| is_named(one, suite))
        };
        let suites = self.suites.iter().filter(|suite| !served(suite));
        suites.map(String::as_str).collect()
    }

    /// The library's provider with these suites.
    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = super::provider();
        if !self.suites.is_empty() {
            let chosen = |one: &rustls::SupportedCipherSuite| {
                one.tls13().is_some() || self.suites.iter().any(|suite| is_named(one, suite))
            };
            provider.cipher_suites.retain(chosen);
        }
        Arc::new(provider)
    }

    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match (self.min, self.without_13) {
            (TlsVersion::Tls13, _) => &BOTH[..1],
            (TlsVersion::Tls12, true) => &BOTH[1..],
            (TlsVersion::Tls12, false) => &BOTH,
        }
    }
}

fn version(text: &str) -> Result<Option<TlsVersion>, ParametersError> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::Tls12)),
        "TLS1.3" => Ok(Some(TlsVersion::Tls13)),
        _ => Err(ParametersError::Version(text.to_owned())),
    }
}

fn is_gos(suite: &str) -> bool {
    GOS_SUITES.contains(&suite)
}

/// Go has two names for some suites.
fn is_named(suite: &rustls::SupportedCipherSuite, name: &str) -> bool {
    let own = suite.suite().as_str().unwrap_or_default();
    own == name || own.strip_suffix("_SHA256") == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(min: &str, max: &str, suites: &str) -> String {
        let parsed = TlsParameters::parse(min, max, suites);
        parsed.unwrap_err().to_string()
    }

    #[test]
    fn what_etcd_refuses_is_refused_in_its_words() {
        let ecdhe = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let unknown = refused("", "", &format!("{ecdhe},foo"));
        assert_eq!(unknown, "unexpected TLS cipher suite \"foo\"");
        let order = refused("TLS1.3", "TLS1.2", "");
        assert_eq!(
            order,
            "min version (TLS1.3) is greater than max version (TLS1.2)"
        );
        assert!(refused("TLS1.1", "", "").starts_with("unexpected TLS version \"TLS1.1\""));
        assert!(refused("TLS1.3", "", ecdhe).starts_with("cipher suites cannot be configured"));
        assert!(refused("", "TLS1.2", "TLS_RSA_WITH_RC4_128_SHA").starts_with("none of the"));
    }

    #[test]
    fn suites_are_those_of_tls_1_2_that_are_chosen() {
        let text = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305, TLS_RSA_WITH_AES_128_CBC_SHA";
        let chosen = TlsParameters::parse("TLS1.2", "", text).unwrap();
        assert_eq!(chosen.unserved(), ["TLS_RSA_WITH_AES_128_CBC_SHA"]);
        let provider = chosen.provider();
        let of_13 = provider
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_some());
        // Of ECDSA and RSA one has the name.
        assert_eq!((of_13.count(), provider.cipher_suites.len()), (3, 4));
        assert_eq!(chosen.versions().len(), 2);
        let all = TlsParameters::default().provider();
        assert_eq!(all.cipher_suites.len(), 9);
    }
}
