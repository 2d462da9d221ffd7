//! How commands reach members: TLS and the user, with etcdctl's flags and variables.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use console::Term;
use keelson_proto::etcdserverpb::AuthenticateRequest;
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proxy::{ClientTls, ClientTlsFiles, TlsError};
use keelson_store::{Error, StateError};
use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::channel;
use crate::environment;

/// The user, with the password after a colon: etcdctl's variable.
const USER: &str = "ETCDCTL_USER";
/// The password: etcdctl's variable.
const PASSWORD: &str = "ETCDCTL_PASSWORD";

/// The flags of a command that calls members.
#[derive(Args, Clone, Debug)]
pub(super) struct AccessArguments {
    /// TLS certificate presented to members.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// CA that members' certificates must be signed by [default: the system's CAs].
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// User, and the password after a colon; without it, the password is read from the terminal
    /// [env: ETCDCTL_USER].
    #[arg(long)]
    user: Option<String>,
    /// Password of --user, which then may contain a colon [env: ETCDCTL_PASSWORD].
    #[arg(long)]
    password: Option<String>,
}

/// Why members cannot be called.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("cannot read the password of {0} from the terminal: {1}; give it with --password")]
    Password(String, io::Error),
    #[error("--password is given without --user")]
    NoUser,
}

impl AccessArguments {
    fn files(&self) -> ClientTlsFiles {
        let identity = self.cert.clone().zip(self.key.clone());
        ClientTlsFiles::new(identity, self.cacert.clone())
    }

    /// Whether any flag is about TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.files() != ClientTlsFiles::default()
    }

    /// The way to members. Reads the password if none is given.
    ///
    /// # Errors
    /// A file of TLS cannot be used, or there is no password.
    pub(super) fn access(&self) -> Result<MemberAccess, AccessError> {
        let given =
            |flag: &Option<String>, name| flag.clone().or_else(|| environment::variable(name));
        let (user, password) = (given(&self.user, USER), given(&self.password, PASSWORD));
        let user = match (user, password) {
            (None, None) => None,
            (None, Some(_)) => return Err(AccessError::NoUser),
            (Some(user), password) => Some(credentials(user, password)?),
        };
        Ok(MemberAccess {
            tls: ClientTls::new(self.files())?,
            user,
            token: Mutex::default(),
        })
    }

    /// These flags for a command line that is printed, without a password.
    pub(super) fn shown(&self) -> [(&'static str, Option<String>); 4] {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let has_colon = self.password.is_none() && environment::variable(PASSWORD).is_none();
        let user = self.user.as_ref().map(|user| match user.split_once(':') {
            Some((name, _)) if has_colon => name.to_owned(),
            _ => user.clone(),
        });
        [
            ("--cert", path(&self.cert)),
            ("--key", path(&self.key)),
            ("--cacert", path(&self.cacert)),
            ("--user", user),
        ]
    }
}

/// As etcdctl: the password is the flag's, or what follows the first colon of the user.
fn credentials(user: String, password: Option<String>) -> Result<AuthenticateRequest, AccessError> {
    let (name, password) = match (password, user.split_once(':')) {
        (Some(password), _) => (user, password),
        (None, Some((name, password))) => (name.to_owned(), password.to_owned()),
        (None, None) => {
            let password = read_password(&user);
            let password = password.map_err(|error| AccessError::Password(user.clone(), error))?;
            (user, password)
        }
    };
    Ok(AuthenticateRequest { name, password })
}

fn read_password(user: &str) -> io::Result<String> {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(io::Error::other("there is no terminal"));
    }
    terminal.write_str(&format!("Password of {user}: "))?;
    terminal.read_secure_line()
}

/// The way to members. A token of one member is valid at all.
#[derive(Debug)]
pub(super) struct MemberAccess {
    tls: ClientTls,
    user: Option<AuthenticateRequest>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

/// A connection to a member whose calls have the user's token.
pub(super) type MemberChannel = InterceptedService<Channel, CallToken>;

/// Adds the token to each call.
#[derive(Clone, Debug)]
pub(super) struct CallToken(Option<MetadataValue<Ascii>>);

impl Interceptor for CallToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

impl MemberAccess {
    pub(super) fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// User and password for a header of HTTP's basic authentication.
    pub(super) fn basic(&self) -> Option<String> {
        let user = self.user.as_ref()?;
        let pair = format!("{}:{}", user.name, user.password);
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// Connects, and logs in if there is a user without a token.
    ///
    /// # Errors
    /// `Unavailable`, or the refusal of the login.
    pub(super) async fn connect(
        &self,
        url: &str,
        answer_max: Duration,
    ) -> Result<MemberChannel, Status> {
        let channel = channel::connect(url, &self.tls, answer_max).await?;
        let known = self.token.lock().clone();
        let token = match (&self.user, known) {
            (Some(user), None) => self.log_in(user, channel.clone()).await?,
            (_, known) => known,
        };
        Ok(InterceptedService::new(channel, CallToken(token)))
    }

    async fn log_in(
        &self,
        user: &AuthenticateRequest,
        channel: Channel,
    ) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let token = match AuthClient::new(channel).authenticate(user.clone()).await {
            Ok(answer) => answer.into_inner().token,
            // As for etcdctl, a user is no error where none is required.
            Err(status) if text_is(&status, &Error::AuthNotEnabled) => return Ok(None),
            Err(status) => return Err(status),
        };
        let token = token.parse::<MetadataValue<Ascii>>();
        let token = token.map_err(|_| Status::unknown("the token is not ASCII"))?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }

    /// After a call that was refused: whether another login may help.
    pub(super) fn may_log_in_again(&self, status: &Status) -> bool {
        let ended = text_is(status, &Error::State(StateError::InvalidAuthToken));
        ended && self.token.lock().take().is_some()
    }
}

/// The remedy of a refusal that is about the user; `None` if it is about something else.
pub(super) fn remedy(status: &Status) -> Option<&'static str> {
    let is = |error: StateError| text_is(status, &Error::State(error));
    if is(StateError::UserEmpty) {
        return Some("auth is enabled and needs a user: repeat this command with --user NAME");
    }
    if text_is(status, &Error::AuthFailed) {
        return Some("the user or the password is wrong: repeat this command with --user NAME");
    }
    if is(StateError::PermissionDenied) {
        return Some("the user may not do this: repeat this command with --user of the role root");
    }
    is(StateError::InvalidAuthToken)
        .then_some("the login has ended: repeat this command with --user NAME")
}

/// Whether the refusal has etcd's text of this error.
pub(super) fn text_is(status: &Status, error: &Error) -> bool {
    status.message() == error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_follows_the_first_colon_or_has_its_own_flag() {
        let parsed = |user: &str, password: Option<&str>| {
            let password = password.map(str::to_owned);
            let found = credentials(user.to_owned(), password).expect("it has a password");
            (found.name, found.password)
        };
        let pair = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        assert_eq!(parsed("root:a:b", None), pair("root", "a:b"));
        assert_eq!(parsed("root:", None), pair("root", ""));
        assert_eq!(parsed("r:t", Some("pw")), pair("r:t", "pw"));
    }

    #[test]
    fn refusals_about_users_have_a_remedy() {
        for error in [
            Error::State(StateError::UserEmpty),
            Error::State(StateError::PermissionDenied),
            Error::State(StateError::InvalidAuthToken),
            Error::AuthFailed,
        ] {
            let text = remedy(&Status::unknown(error.to_string()));
            assert!(text.is_some_and(|text| text.contains("--user")), "{error}");
        }
        assert_eq!(remedy(&Status::unknown(Error::Timeout.to_string())), None);
    }
}
