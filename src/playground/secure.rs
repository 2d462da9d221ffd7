//! `--secure`: certificates for members, proxies and clients, and a user `root` with a password.
//!
//! Two authorities sign: a client's certificate opens no peer port. Their keys are not kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::{
    AuthEnableRequest, AuthStatusRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
    AuthenticateRequest,
};
use keelson_proxy::{ClientTls, ClientTlsFiles, TlsError};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair,
};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::certificates::{CertificateError, keep};
use crate::commands::channel;

/// The directory of all files, in the playground's.
const DIRECTORY: &str = "tls";

/// Time limit for a login.
const LOGIN_MAX: Duration = Duration::from_secs(2);

/// Between two logins that fail.
const LOGIN_PAUSE: Duration = Duration::from_secs(5);

/// Time limit for the members to accept users: each must have published its release.
const ENABLE_MAX: Duration = Duration::from_secs(30);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Files that cannot be made, or users that cannot be added.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecureError {
    #[error("cannot make certificates: {0}")]
    Made(#[from] rcgen::Error),
    #[error("{0}")]
    Kept(#[from] CertificateError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("cannot add the user root and enable auth: {0}")]
    Auth(String),
    #[error(
        "the data in {0} was made without --secure: leave it out, or choose another --data-dir"
    )]
    Plain(PathBuf),
    #[error("the data in {0} was made with --secure: give it again, or choose another --data-dir")]
    Secure(PathBuf),
}

/// The certificates, and the token of `root`.
pub(super) struct Secure {
    directory: PathBuf,
    tls: ClientTls,
    password: String,
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    /// Auth may be enabled: requests need a token.
    needs_token: bool,
    token: Option<String>,
    /// Not before this time is another login tried.
    retry: Option<Instant>,
}

/// The certificates, where `--secure` is given and the data are of a secure playground.
pub(super) fn prepare(wanted: bool, data: &Path) -> Result<Option<Secure>, SecureError> {
    let directory = data.join(DIRECTORY);
    let is_new = !data.join("discovery.url").exists();
    match (wanted, directory.join("root.password").exists()) {
        (false, false) => Ok(None),
        (false, true) => Err(SecureError::Secure(data.to_owned())),
        (true, true) => Secure::open(directory, !is_new).map(Some),
        (true, false) if is_new => {
            make_all(&directory)?;
            Secure::open(directory, false).map(Some)
        }
        (true, false) => Err(SecureError::Plain(data.to_owned())),
    }
}

impl Secure {
    fn open(directory: PathBuf, needs_token: bool) -> Result<Secure, SecureError> {
        let path = |name: &str| directory.join(name);
        let own = (path("client.pem"), path("client-key.pem"));
        let tls = ClientTls::new(ClientTlsFiles::new(Some(own), Some(path("ca.pem"))))?;
        let password = fs::read_to_string(path("root.password"))
            .map_err(|error| SecureError::Read(path("root.password"), error))?;
        let session = Session {
            needs_token,
            ..Session::default()
        };
        Ok(Secure {
            directory,
            tls,
            password: password.trim().to_owned(),
            session: Mutex::new(session),
        })
    }

    /// The path of a file for the user.
    pub(super) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The flags of every host, member or proxy.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        vec![
            ("cert-file", self.file("member.pem")),
            ("key-file", self.file("member-key.pem")),
            ("trusted-ca-file", self.file("ca.pem")),
            ("client-cert-auth", "true".to_owned()),
            ("peer-cert-file", self.file("peer.pem")),
            ("peer-key-file", self.file("peer-key.pem")),
            ("peer-trusted-ca-file", self.file("peer-ca.pem")),
            ("peer-client-cert-auth", "true".to_owned()),
        ]
    }

    /// A channel to a host's client URL, which connects when it is used.
    pub(super) fn channel(&self, url: &str, answer_max: Duration) -> Result<Channel, Status> {
        channel::lazy(url, &self.tls, answer_max)
    }

    /// Adds the user `root` and enables auth, unless that is done.
    pub(super) async fn enable_auth(&self, url: &str) -> Result<(), SecureError> {
        let began = Instant::now();
        while let Err(status) = self.try_to_enable(url).await {
            if ENABLE_MAX < began.elapsed() {
                return Err(SecureError::Auth(status.message().to_owned()));
            }
            sleep(PAUSE).await;
        }
        self.session.lock().needs_token = true;
        self.log_in(url).await;
        Ok(())
    }

    async fn try_to_enable(&self, url: &str) -> Result<(), Status> {
        let mut auth = AuthClient::new(self.channel(url, ENABLE_MAX)?);
        // Also after a start that was interrupted, or an answer that was lost.
        let status = auth.auth_status(AuthStatusRequest {}).await?;
        if status.into_inner().enabled {
            return Ok(());
        }
        let root = || "root".to_owned();
        let added = auth.user_add(AuthUserAddRequest {
            name: root(),
            password: self.password.clone(),
            ..AuthUserAddRequest::default()
        });
        match added.await {
            // An attempt before this one may have added it.
            Err(status) if !status.message().contains("already exists") => return Err(status),
            Ok(_) | Err(_) => {}
        }
        let grant = AuthUserGrantRoleRequest {
            user: root(),
            role: root(),
        };
        auth.user_grant_role(grant).await?;
        auth.auth_enable(AuthEnableRequest {}).await?;
        Ok(())
    }

    /// The token for the next request. Logs in where there is none.
    pub(super) async fn token(&self, url: &str) -> Option<String> {
        let now = Instant::now();
        {
            let session = self.session.lock();
            let waits = session.retry.is_some_and(|retry| now < retry);
            if !session.needs_token || session.token.is_some() || waits {
                return session.token.clone();
            }
        }
        self.log_in(url).await;
        self.session.lock().token.clone()
    }

    async fn log_in(&self, url: &str) {
        let login = async {
            let mut auth = AuthClient::new(self.channel(url, LOGIN_MAX)?);
            let request = AuthenticateRequest {
                name: "root".to_owned(),
                password: self.password.clone(),
            };
            Ok::<_, Status>(auth.authenticate(request).await?.into_inner().token)
        };
        let answer = timeout(LOGIN_MAX, login).await;
        let mut session = self.session.lock();
        session.token = answer.ok().and_then(Result::ok);
        session.retry = session
            .token
            .is_none()
            .then(|| Instant::now() + LOGIN_PAUSE);
    }

    /// A request with the token was refused: the next one logs in again.
    pub(super) fn refused(&self, status: &Status) {
        if matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument) {
            self.session.lock().token = None;
        }
    }
}

/// Makes all files. The password comes last: it marks the directory as complete.
fn make_all(directory: &Path) -> Result<(), SecureError> {
    let clients = authority()?;
    let peers = authority()?;
    for (file, pem) in [("ca.pem", clients.pem()), ("peer-ca.pem", peers.pem())] {
        keep(directory, &directory.join(file), &pem)?;
    }
    for (name, issuer) in [("member", &clients), ("client", &clients), ("peer", &peers)] {
        let key = KeyPair::generate()?;
        let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let certificate = parameters(hosts.to_vec())?.signed_by(&key, issuer)?;
        let key_file = directory.join(format!("{name}-key.pem"));
        keep(directory, &key_file, &key.serialize_pem())?;
        keep(
            directory,
            &directory.join(format!("{name}.pem")),
            &certificate.pem(),
        )?;
    }
    let password = password()?;
    keep(
        directory,
        &directory.join("root.password"),
        &format!("{password}\n"),
    )?;
    Ok(())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = parameters(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "keelson playground");
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Without a common name, which members may take for a user's.
fn parameters(hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(3650);
    Ok(params)
}

/// 128 bits of the public key of a pair that is dropped at once: ring's source of randomness.
fn password() -> Result<String, rcgen::Error> {
    let pair = KeyPair::generate()?;
    let point = pair.public_key_raw();
    let digits = point.iter().skip(1).take(16);
    Ok(digits.map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_and_kept_for_their_data() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path();
        assert!(matches!(prepare(false, data), Ok(None)));
        let first = prepare(true, data).expect("room").expect("it is wanted");
        assert_eq!(first.password.len(), 32);
        for file in [
            "root.password",
            "member-key.pem",
            "peer-key.pem",
            "client-key.pem",
        ] {
            let mode = fs::metadata(first.file(file))
                .expect(file)
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(matches!(prepare(false, data), Err(SecureError::Secure(_))));
        fs::write(data.join("discovery.url"), "http://d/t").expect("room");
        let again = prepare(true, data).expect("room").expect("it is wanted");
        assert_eq!(again.password, first.password);
        assert!(again.session.lock().needs_token);
        let plain = tempfile::tempdir().expect("a directory");
        fs::write(plain.path().join("discovery.url"), "http://d/t").expect("room");
        assert!(matches!(
            prepare(true, plain.path()),
            Err(SecureError::Plain(_))
        ));
    }
}
