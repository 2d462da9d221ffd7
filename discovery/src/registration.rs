//! What a member registers, `name=url[,name=url]`; `--initial-cluster` is written so too.

use std::collections::BTreeMap;

use crate::identity::member_id;

/// Bound on the number of `name=url` pairs, far beyond real clusters.
const PAIRS_MAX: usize = 10_000;

/// A member as it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// `--name`.
    pub name: String,
    /// `--initial-advertise-peer-urls`.
    pub peer_urls: Vec<String>,
    /// From [`member_id`], with the discovery URL as the token.
    pub id: u64,
}

/// Why a text is not `name=url[,name=url]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// More pairs than any cluster has.
    #[error("it has more than {PAIRS_MAX} URLs")]
    TooMany,
    /// A part without `=`, or without a name before it.
    #[error("{0:?} is not name=url")]
    NotAPair(String),
    /// Not a peer URL.
    #[error("{url:?} is not a peer URL: {reason}")]
    BadUrl {
        /// As written.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Registration {
    /// A member of the cluster that `discovery_url` names, with the id that etcd would give it.
    pub fn new(name: &str, peer_urls: &[String], discovery_url: &str) -> Registration {
        Registration {
            name: name.to_owned(),
            peer_urls: peer_urls.to_vec(),
            id: member_id(peer_urls, discovery_url),
        }
    }

    /// The id as etcd writes it: hexadecimal without leading zeros.
    pub fn hex_id(&self) -> String {
        format!("{:x}", self.id)
    }

    /// `name=url[,name=url]`, sorted, as etcd writes it.
    pub fn value(&self) -> String {
        let mut pairs: Vec<String> = (self.peer_urls.iter())
            .map(|url| format!("{}={url}", self.name))
            .collect();
        pairs.sort_unstable();
        pairs.join(",")
    }

    /// Whether `value` has the same pairs, in any order.
    pub fn is(&self, value: &str) -> bool {
        let ours = parse(&self.value());
        ours.is_ok() && ours == parse(value)
    }
}

/// The names and their URLs, sorted and without repetitions.
pub type Members = BTreeMap<String, Vec<String>>;

/// Reads `name=url[,name=url]`; white space around it, and empty parts, are passed over as in etcd.
pub fn parse(text: &str) -> Result<Members, EntryError> {
    let mut members = Members::new();
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    for (count, part) in parts.enumerate() {
        if PAIRS_MAX <= count {
            return Err(EntryError::TooMany);
        }
        let (name, url) = pair(part)?;
        members
            .entry(name.to_owned())
            .or_default()
            .push(url.to_owned());
    }
    if members.is_empty() {
        return Err(EntryError::Empty);
    }
    for urls in members.values_mut() {
        urls.sort_unstable();
        urls.dedup();
    }
    Ok(members)
}

/// One `name=url`.
pub fn pair(part: &str) -> Result<(&str, &str), EntryError> {
    let split = part.split_once('=').filter(|(name, _)| is_name(name));
    let (name, url) = split.ok_or_else(|| EntryError::NotAPair(part.to_owned()))?;
    let url = url.trim();
    check_url(url).map_err(|reason| EntryError::BadUrl {
        url: url.to_owned(),
        reason,
    })?;
    Ok((name, url))
}

/// Whether a name reads back as it was written.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name == name.trim() && !name.contains(char::is_control)
}

/// etcd's rules for peer URLs: scheme, host and port, no path.
fn check_url(url: &str) -> Result<(), &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
    match scheme {
        "http" | "https" => {}
        "unix" | "unixs" if !rest.is_empty() => return Ok(()),
        _ => return Err("its scheme is not http, https, unix or unixs"),
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it has white space in it");
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err("it must be host:port and nothing more");
    }
    let (host, port) = rest.rsplit_once(':').ok_or("it has no port")?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) {
        return Err("it has no host");
    }
    let port = port.parse::<u16>().map_err(|_| "its port is not a number");
    port.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_in_any_order() {
        let urls = ["http://10.0.0.1:7001", "http://10.0.0.1:2380"].map(str::to_owned);
        let me = Registration::new("a", &urls, "http://d:8087/t");
        assert_eq!(me.value(), "a=http://10.0.0.1:2380,a=http://10.0.0.1:7001");
        assert!(me.is("a=http://10.0.0.1:7001,a=http://10.0.0.1:2380"));
        assert!(!me.is("a=http://10.0.0.1:2380"));
        assert!(!me.is("b=http://10.0.0.1:7001,b=http://10.0.0.1:2380"));
        assert!(!me.is(""));
    }

    #[test]
    fn what_is_not_a_peer_url_is_named() {
        let bad = [
            "http://h",
            "http://:1",
            "h:1",
            "ftp://h:1",
            "http://h:x",
            "http://h:1/p",
            "http://::1:1",
        ];
        for url in bad {
            let read = parse(&format!("a={url}"));
            assert!(matches!(read, Err(EntryError::BadUrl { .. })), "{url}");
        }
        for url in ["http://h:1", "https://[::1]:2380", "unix://a", "http://h:0"] {
            assert!(parse(&format!("a={url}")).is_ok(), "{url}");
        }
        assert_eq!(parse(" , "), Err(EntryError::Empty));
        assert_eq!(parse(","), Err(EntryError::Empty));
        for name in ["\t", " a", "a\u{0}b"] {
            let read = parse(&format!("x=http://h:1,{name}=http://h:1"));
            assert!(matches!(read, Err(EntryError::NotAPair(_))), "{name:?}");
        }
        assert_eq!(
            parse("=http://h:1"),
            Err(EntryError::NotAPair("=http://h:1".to_owned()))
        );
        assert_eq!(parse("x"), Err(EntryError::NotAPair("x".to_owned())));
    }
}
