//! A URL as etcd's flags accept it: scheme, host and port, without a path.
//!
//! `url::Url` does not fit: it drops a scheme's default port and adds a `/`. The text of a peer
//! URL is hashed into the member id, so it must stay as etcd writes it.

use std::fmt;
use std::net::IpAddr;

/// The protocol at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP/1.1 and h2c, without TLS.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
    /// A unix socket without TLS.
    Unix,
    /// A unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// The scheme as text, without `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }

    /// Whether the scheme uses TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// Whether the URL names a unix socket.
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

/// A checked URL. Ordered and compared by its text, as etcd sorts and compares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    scheme: Scheme,
    /// The byte range of the host in `text`.
    host: (u32, u32),
    port: u16,
}

/// Why a URL was refused. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not `http`, `https`, `unix` or `unixs`.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// The port is missing, or host and port cannot be separated.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// There is text after the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// The text cannot be parsed as a URL; Go's error text.
    #[error("parse \"{0}\": {1}")]
    Parse(String, &'static str),
    /// The list is empty.
    #[error("no valid URLs given")]
    Empty,
}

impl Url {
    /// Parses one URL; surrounding white space is removed.
    pub fn parse(input: &str) -> Result<Url, UrlError> {
        let input = input.trim();
        let (scheme, rest) = split_scheme(input)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        check_characters(input, authority)?;
        if scheme.is_unix() {
            return Ok(Url::assemble(scheme, rest, rest, 0));
        }
        let (host, port) =
            split_host_port(authority).ok_or_else(|| UrlError::HostPort(input.to_owned()))?;
        let port = match port {
            "" => Ok(0),
            digits => digits.parse::<u16>(),
        };
        let port = port.map_err(|_| UrlError::Parse(input.to_owned(), "invalid port in URL"))?;
        if !path.is_empty() {
            return Err(UrlError::Path(input.to_owned()));
        }
        Ok(Url::assemble(scheme, authority, host, port))
    }

    /// Builds a URL from its parts; `host` is a part of `authority`.
    fn assemble(scheme: Scheme, authority: &str, host: &str, port: u16) -> Url {
        let prefix = scheme.as_str().len() + "://".len();
        let bracket = usize::from(authority.starts_with('[') && !host.starts_with('['));
        let start = prefix + bracket;
        let fits = |offset: usize| u32::try_from(offset).expect("a URL is shorter than 4 GiB");
        let url = Url {
            text: format!("{}://{authority}", scheme.as_str()),
            scheme,
            host: (fits(start), fits(start + host.len())),
            port,
        };
        assert_eq!(url.host(), host);
        url
    }

    /// Parses a comma separated list into sorted URLs, as etcd's `NewURLs` does.
    pub fn parse_list(input: &str) -> Result<Vec<Url>, UrlError> {
        if input.trim().is_empty() {
            return Err(UrlError::Empty);
        }
        let mut urls = input
            .split(',')
            .map(Url::parse)
            .collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        Ok(urls)
    }

    /// The URL of a TCP address without TLS.
    pub fn http(host: &str, port: u16) -> Url {
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Url::assemble(Scheme::Http, &authority, host, port)
    }

    /// The URL as etcd prints and hashes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host name or address, without brackets; for a unix socket everything after `://`.
    pub fn host(&self) -> &str {
        &self.text[self.host.0 as usize..self.host.1 as usize]
    }

    /// The port; 0 for a unix socket and for an empty port (`host:`).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as an IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// The host to dial: the zone of an IPv6 address is unescaped.
    pub fn dialled_host(&self) -> String {
        self.host().replacen("%25", "%", 1)
    }

    /// `host:port`, with brackets where an IPv6 address needs them.
    pub fn authority(&self) -> &str {
        &self.text[self.scheme.as_str().len() + "://".len()..]
    }

    /// Whether a listener can be bound to it: an address, `localhost`, or a unix socket.
    pub fn is_bindable(&self) -> bool {
        self.scheme.is_unix() || self.host() == "localhost" || self.ip().is_some()
    }
}

fn split_scheme(input: &str) -> Result<(Scheme, &str), UrlError> {
    if let Some((scheme, rest)) = input.split_once("://") {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(input.to_owned())),
        };
        return Ok((scheme, rest));
    }
    // Go parses `10.0.0.1:2379` as a path whose first segment contains a colon, and `etcd:2379`
    // as a URL of the scheme `etcd`.
    let starts_with_letter = input.starts_with(|c: char| c.is_ascii_alphabetic());
    let first_segment = input.split('/').next().unwrap_or_default();
    if !starts_with_letter && first_segment.contains(':') {
        return Err(UrlError::Parse(
            input.to_owned(),
            "first path segment in URL cannot contain colon",
        ));
    }
    Err(UrlError::Scheme(input.to_owned()))
}

fn check_characters(input: &str, authority: &str) -> Result<(), UrlError> {
    let refuse = |why| Err(UrlError::Parse(input.to_owned(), why));
    if input.chars().any(|c| c.is_ascii_control()) {
        return refuse("net/url: invalid control character in URL");
    }
    if authority.contains('[') && !authority.contains(']') {
        return refuse("missing ']' in host");
    }
    // RFC 6874: a zone follows the address after an escaped `%`.
    let zoneless = match authority.split_once("%25") {
        Some((ip, zone)) if ip.starts_with('[') && !zone.starts_with(']') => [ip, zone],
        _ => [authority, ""],
    };
    if zoneless.concat().contains([' ', '"', '<', '>', '@', '%']) {
        return refuse("invalid character in host name");
    }
    Ok(())
}

/// Go's `net.SplitHostPort`: a port is required but may be empty; IPv6 addresses need brackets.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = authority.rsplit_once(':')?;
    if host.contains([':', '[', ']']) {
        None
    } else {
        Some((host, port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl std::str::FromStr for Url {
    type Err = UrlError;

    fn from_str(input: &str) -> Result<Url, UrlError> {
        Url::parse(input)
    }
}

/// The URLs, separated by commas, as in flags and messages.
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_keep_their_text() {
        for (input, host, port) in [
            ("http://127.0.0.1:2379", "127.0.0.1", 2379),
            (" http://localhost:80 ", "localhost", 80),
            ("https://[::1]:443", "::1", 443),
            ("http://[fe80::1%25eth0]:2379", "fe80::1%25eth0", 2379),
            ("http://:2379", "", 2379),
        ] {
            let url = Url::parse(input).expect(input);
            assert_eq!(url.as_str(), input.trim());
            assert_eq!((url.host(), url.port()), (host, port));
        }
        assert_eq!(
            Url::parse("HTTP://a:1").expect("upper case").as_str(),
            "http://a:1"
        );
        assert_eq!(
            Url::http("::1", 5),
            Url::parse("http://[::1]:5").expect("v6")
        );
        assert!(
            Url::parse("unix://localhost:m10")
                .expect("unix")
                .is_bindable()
        );
    }

    // The texts were recorded from etcd 3.4.23.
    #[test]
    fn bad_urls_are_refused_in_etcds_words() {
        for (input, why) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            (
                "ftp://127.0.0.1:2379",
                "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:2379",
            ),
            (
                "etcd:2379",
                "URL scheme must be http, https, unix, or unixs: etcd:2379",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            (
                "http://::1:2379",
                "URL address does not have the form \"host:port\": http://::1:2379",
            ),
            (
                "http://a:1/path",
                "URL must not contain a path: http://a:1/path",
            ),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            (
                "http://[fe80::1%eth0]:1",
                "parse \"http://[fe80::1%eth0]:1\": invalid character in host name",
            ),
            ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
            (
                "http://a:70000",
                "parse \"http://a:70000\": invalid port in URL",
            ),
            ("http://a:b", "parse \"http://a:b\": invalid port in URL"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
        ] {
            let error = Url::parse(input).expect_err(input);
            assert_eq!(error.to_string(), why);
        }
        assert_eq!(Url::parse_list(""), Err(UrlError::Empty));
    }

    #[test]
    fn lists_are_sorted_by_text() {
        let urls = Url::parse_list("http://b:1,http://a:2 ,http://a:10").expect("three");
        assert_eq!(join(&urls), "http://a:10,http://a:2,http://b:1");
    }
}
