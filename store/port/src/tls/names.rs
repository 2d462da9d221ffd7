//! `--peer-cert-allowed-cn`, `--peer-cert-allowed-hostname`, `--client-cert-allowed-hostname`:
//! verified certificates must have one of these names as well, and must not be revoked.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::revocation::Revocations;
use super::subject;

/// The names of which a certificate must have one. Without any, every verified one is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNames {
    /// Common names, which must be equal.
    pub common_names: Vec<String>,
    /// Hosts that the certificate must be valid for.
    pub hosts: Vec<String>,
}

/// A certificate that is valid and has none of the names. The text is etcd's.
#[derive(Debug)]
struct NotAllowed(AllowedNames);

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AllowedNames {
            common_names,
            hosts,
        } = &self.0;
        write!(
            f,
            "client certificate authentication failed: its name is none of {common_names:?} \
             (allowed-cn) or {hosts:?} (allowed-hostname)"
        )
    }
}

impl std::error::Error for NotAllowed {}

impl AllowedNames {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.common_names.is_empty() && self.hosts.is_empty()
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let name = subject::common_name_of(certificate);
        let by_name = name.is_some_and(|name| self.common_names.contains(&name));
        if self.is_empty() || by_name || self.has_host(certificate) {
            return Ok(());
        }
        let error = OtherError(Arc::new(NotAllowed(self.clone())));
        Err(CertificateError::Other(error).into())
    }

    fn has_host(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
            return false;
        };
        let is_for = |host: &String| {
            let host = ServerName::try_from(host.as_str());
            host.is_ok_and(|host| verify_server_name(&parsed, &host).is_ok())
        };
        self.hosts.iter().any(is_for)
    }
}

/// The methods about signatures, which both traits of verifiers have.
macro_rules! signatures_by_inner {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.inner
                .verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.inner
                .verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.inner.supported_verify_schemes()
        }
    };
}

/// Verifies clients, then their revocation and names.
#[derive(Debug)]
pub(super) struct NamedClients {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) revoked: Revocations,
    pub(super) allowed: AllowedNames,
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(certificate, intermediates, now)?;
        self.revoked.check(certificate, intermediates)?;
        self.allowed.check(certificate)?;
        Ok(verified)
    }

    signatures_by_inner!();
}

/// Verifies servers, then their revocation and names.
#[derive(Debug)]
pub(super) struct NamedServers {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) revoked: Revocations,
    pub(super) allowed: AllowedNames,
}

impl ServerCertVerifier for NamedServers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let inner = &self.inner;
        let verified = inner.verify_server_cert(certificate, intermediates, server, ocsp, now)?;
        self.revoked.check(certificate, intermediates)?;
        self.allowed.check(certificate)?;
        Ok(verified)
    }

    signatures_by_inner!();
}
