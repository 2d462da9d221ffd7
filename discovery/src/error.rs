//! Errors of discovery: etcd's texts first, then the remedy.

use crate::SizeError;
use crate::http::HttpError;

/// Why discovery ended without a cluster.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not a discovery URL.
    #[error(
        "discovery: invalid URL {url:?}: {reason}; give the URL as the discovery service printed \
         it, such as http://host:8087/<token>"
    )]
    InvalidUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a proxy's address.
    #[error(
        "invalid proxy address {address:?}: {reason}; give --discovery-proxy as http://host:port"
    )]
    InvalidProxy {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token does not exist, or has expired.
    #[error(
        "discovery: size key not found: the token {url} does not exist or has expired; {renew} and \
         give it to every host that has no data yet"
    )]
    SizeNotFound {
        /// The discovery URL, or the key of a v3 token.
        url: String,
        /// The command that makes a token.
        renew: String,
    },
    /// The token's size is not a member count.
    #[error("discovery: size key is bad: {url} has the size {value:?}: {reason}; {renew}")]
    BadSizeKey {
        /// The discovery URL, or the key of a v3 token.
        url: String,
        /// The stored value.
        value: String,
        /// What is wrong with it.
        reason: SizeError,
        /// The command that makes a token.
        renew: String,
    },
    /// The server that answers is not a discovery service.
    #[error(
        "discovery: bad discovery endpoint: {url} answered {answer}, which is not etcd's v2 keys \
         API; check the URL, and whether a proxy or a login page answers in the service's place"
    )]
    BadDiscoveryEndpoint {
        /// The URL of the request.
        url: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// Another host, or this one with other settings, is registered under our id.
    #[error(
        "discovery: found duplicate id: {id} is registered as {theirs:?}, this host is {ours:?}; \
         if that entry is this host's own with an old name or address, start with those again or \
         make a new token; if it is another host's, give each host its own \
         --initial-advertise-peer-urls"
    )]
    DuplicateId {
        /// The member id in hexadecimal.
        id: String,
        /// The registered value.
        theirs: String,
        /// The value that this host would register.
        ours: String,
    },
    /// Two members have the same name.
    #[error(
        "discovery: found duplicate name: {name:?} is registered by {ids}; give every host its own \
         --name, and make a new token"
    )]
    DuplicateName {
        /// The name.
        name: String,
        /// The ids that have it.
        ids: String,
    },
    /// Two members have the same peer URL.
    #[error(
        "discovery: found duplicate URL: {url} is registered by {ids}; give every host its own \
         --initial-advertise-peer-urls, and make a new token"
    )]
    DuplicateUrl {
        /// The URL.
        url: String,
        /// The ids that have it.
        ids: String,
    },
    /// An entry of the token is not `name=url`.
    #[error(
        "discovery: invalid URL: the entry {id} of the token is {value:?}: {reason}; delete it \
         ({remove}) and start that host again, or {renew}"
    )]
    InvalidEntry {
        /// The entry's name.
        id: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// The command that deletes the entry.
        remove: String,
        /// The command that makes a token.
        renew: String,
    },
    /// The value to register is not `name=url`.
    #[error(
        "discovery: cannot register {value:?}: {reason}; check --name and \
         --initial-advertise-peer-urls"
    )]
    InvalidRegistration {
        /// The value to register.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The note that must be durable before the registration could not be written.
    #[error("discovery: cannot keep a note of the registration: {0}; nothing was registered")]
    Note(std::io::Error),
    /// For `--discovery-fallback=exit`; otherwise a full cluster is an [`crate::Outcome`].
    #[error(
        "discovery: cluster is full: its {size} members are {initial_cluster}; start this host \
         with --discovery-fallback=proxy, or as a member of its own after `etcdctl member add`"
    )]
    FullCluster {
        /// The number of members.
        size: u32,
        /// The members.
        initial_cluster: String,
    },
    /// The service failed as often as [`crate::RetryPolicy`] allows.
    #[error(
        "discovery: too many retries: {attempts} in a row failed, the last with: {last}; check \
         that {url} can be reached from this host"
    )]
    TooManyRetries {
        /// The discovery URL.
        url: String,
        /// The number of attempts.
        attempts: u32,
        /// The last failure.
        last: String,
    },
    /// The entry was registered and removed several times.
    #[error(
        "discovery: the entry {id} of {url} is removed each time it is registered; find what \
         deletes it, or make a new token"
    )]
    Vanishing {
        /// The discovery URL.
        url: String,
        /// This host's id.
        id: String,
    },
    /// The service refused the request.
    #[error(
        "discovery: {url} refused: {error}; check that the URL is a token's and not a key's \
         within it, and whether this host may write there; or make a new token"
    )]
    Refused {
        /// The URL of the request.
        url: String,
        /// The service's error.
        error: String,
    },
    /// Not the URL of a discovery service.
    #[error(
        "discovery: invalid URL {url:?}: {reason}; give the service's own URL, such as \
         http://host:8087"
    )]
    InvalidService {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `/new` returned no token.
    #[error(
        "discovery: no token from {url}: status {status}, {answer:?}; check that the URL is a \
         discovery service's and that its etcd is running"
    )]
    NoToken {
        /// The URL of the request.
        url: String,
        /// The answer's status.
        status: u16,
        /// The beginning of its body.
        answer: String,
    },
    /// The v3 API refused the request with a code that a retry does not change.
    #[error(
        "discovery: {endpoint} refused: {message}; check --discovery-endpoints, and that etcd's \
         discovery keys may be read and written without a password"
    )]
    RefusedV3 {
        /// The endpoint.
        endpoint: String,
        /// gRPC's code and text.
        message: String,
    },
    /// An option that is missing or not offered.
    #[error("discovery: {0}")]
    Option(String),
    /// The exchange failed, and a retry does not help.
    #[error("discovery: {0}")]
    Http(#[from] HttpError),
}

/// What an operator can do about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedies {
    /// The command that deletes an entry, once `/<id>` is appended.
    pub remove: String,
    /// The command that makes a new token.
    pub renew: String,
}
