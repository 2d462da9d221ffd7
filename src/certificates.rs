//! Certificates that this host makes, and the care for all of its TLS files while it runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keelson_store::edge::{
    CertificateEnd, ServerTls, has_files, reload_files, warn_of_certificate_ends,
};
use keelson_store::internals::disk::{self, RealDisk};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::logging;
use crate::options_tls::SelfSigned;
use crate::signals;

/// A generated certificate with fewer days left is made anew.
const RENEW_DAYS: i64 = 30;

/// Between two looks at the ends of certificates.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot make a certificate for {0:?}: {1}; the listen URLs must have its hosts")]
    Generated(Vec<String>, rcgen::Error),
    #[error("cannot keep a certificate in {0}: {1}")]
    Kept(std::path::PathBuf, std::io::Error),
}

impl SelfSigned {
    /// Makes the certificate, unless there is one that is valid for a while.
    pub(crate) fn ensure(&self) -> Result<(), CertificateError> {
        let files = self.files();
        let ends = CertificateEnd::read(&files.cert).unwrap_or_default();
        let is_valid = ends
            .first()
            .is_some_and(|end| RENEW_DAYS <= end.days_left());
        // A process may have ended between the writing of the key and of the certificate.
        if is_valid && ServerTls::new(files.clone()).is_ok() {
            return Ok(());
        }
        let failed = |error| CertificateError::Generated(self.hosts.clone(), error);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = self
            .parameters()
            .and_then(|params| params.self_signed(&key));
        let certificate = certificate.map_err(failed)?;
        keep(&self.directory, &files.key, &key.serialize_pem())?;
        keep(&self.directory, &files.cert, &certificate.pem())?;
        info!(cert = %files.cert.display(), hosts = ?self.hosts, "made a certificate");
        Ok(())
    }

    fn parameters(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(self.hosts.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "etcd");
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = OffsetDateTime::now_utc();
        // Clocks of clients may be behind.
        params.not_before = now - time::Duration::hours(1);
        let years = i64::try_from(self.years.min(1000)).unwrap_or(1);
        params.not_after = now + time::Duration::days(365 * years);
        Ok(params)
    }
}

/// Writes a file that only this user can read.
pub(crate) fn keep(directory: &Path, path: &Path, text: &str) -> Result<(), CertificateError> {
    let failed = |error| CertificateError::Kept(path.to_owned(), error);
    disk::create_dir_durably(&RealDisk, directory).map_err(failed)?;
    disk::replace_file(&RealDisk, path, text.as_bytes()).map_err(failed)
}

/// Opens log files anew on SIGHUP, and reads the TLS files, and the keys of JWTs, again. Once a day
/// it warns of certificates that end soon, and renews generated ones. Returns at once if there are
/// no such files: SIGHUP then ends the process, as it ends etcd. With them it is remembered from
/// the start of the process on.
pub(crate) async fn care(generated: Vec<SelfSigned>) {
    let generated = Arc::new(generated);
    if !has_files() && !logging::has_files() {
        return;
    }
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return warn!(%error, "cannot catch SIGHUP: it ends the process"),
    };
    // One that came while the files were read, or before.
    if signals::has_hung_up() {
        let _ = spawn_blocking(hang_up).await;
    }
    let mut days = tokio::time::interval(DAY);
    days.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The start has warned already.
    days.tick().await;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                // Files are read and synced: that must not hold up a thread of requests.
                let _ = spawn_blocking(hang_up).await;
            }
            _ = days.tick() => {
                let generated = Arc::clone(&generated);
                let _ = spawn_blocking(move || look(&generated)).await;
            }
        }
    }
}

/// SIGHUP. Blocks the thread.
fn hang_up() {
    logging::reopen();
    if has_files() {
        info!("received SIGHUP: reading the TLS files, and the keys of tokens, again");
        reload_files();
    }
}

/// Renews generated certificates, and warns of all that end soon. Blocks the thread.
fn look(generated: &[SelfSigned]) {
    for certificate in generated {
        if let Err(error) = certificate.ensure() {
            warn!(%error, "cannot renew a generated certificate");
        }
    }
    warn_of_certificate_ends();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_generated_certificate_is_kept_until_it_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let signed = |years| SelfSigned {
            directory: dir.path().join("fixtures/client"),
            hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            years,
        };
        signed(1).ensure().expect("room");
        let files = signed(1).files();
        let read = || fs::read(&files.cert).expect("it is there");
        let first = read();
        ServerTls::new(files.clone()).expect("they can be used");
        for path in [&files.cert, &files.key] {
            let mode = fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        signed(2).ensure().expect("it is there");
        assert_eq!(read(), first, "it was used again");
        // Its end is near.
        let key = KeyPair::generate().expect("a key");
        let mut params = signed(1).parameters().expect("good hosts");
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(29);
        let ending = params.self_signed(&key).expect("it can be signed");
        fs::write(&files.cert, ending.pem()).expect("room");
        signed(1).ensure().expect("room");
        let ends = CertificateEnd::read(&files.cert).expect("it is there");
        assert!((363..=365).contains(&ends[0].days_left()), "{ends:?}");
    }
}
