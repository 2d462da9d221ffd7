//! A discovery URL, and the requests below it.

use std::fmt;

use url::Url;

use crate::DiscoveryError;

/// Bound on the length, beyond any real URL.
const LENGTH_MAX: usize = 2048;

/// The URL of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryUrl {
    /// As the operator wrote it: this text is the cluster's token, and hashed into the members'
    /// ids.
    text: String,
    url: Url,
}

impl DiscoveryUrl {
    /// Checks a `--discovery` flag.
    pub fn parse(text: &str) -> Result<DiscoveryUrl, DiscoveryError> {
        let invalid = |reason: &str| DiscoveryError::InvalidUrl {
            url: text.chars().take(LENGTH_MAX).collect(),
            reason: reason.to_owned(),
        };
        if LENGTH_MAX < text.len() {
            return Err(invalid("it is too long"));
        }
        let mut url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        match url.scheme() {
            "http" | "https" => {}
            _ => return Err(invalid("its scheme is not http or https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("user names and passwords in it are not supported"));
        }
        let path = clean(url.path());
        if path.is_empty() {
            return Err(invalid("it has no token after the host"));
        }
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        let text = text.to_owned();
        Ok(DiscoveryUrl { text, url })
    }

    /// As the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, a name or an address.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The URL of a path below the token, with a query.
    pub(crate) fn at(&self, below: &str, query: &str) -> Url {
        let mut url = self.url.clone();
        if !below.is_empty() {
            url.set_path(&format!("{}/{below}", self.url.path()));
        }
        url.set_query((!query.is_empty()).then_some(query));
        url
    }
}

impl fmt::Display for DiscoveryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Go's `path.Join` of the parts: no empty ones.
fn clean(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.flat_map(|part| ["/", part]).collect()
}

/// Checks a `--discovery-proxy` flag, whose scheme is optional.
pub(crate) fn parse_proxy(text: &str) -> Result<Url, DiscoveryError> {
    let invalid = |reason: String| DiscoveryError::InvalidProxy {
        address: text.chars().take(LENGTH_MAX).collect(),
        reason,
    };
    let whole = match text.starts_with("http") && text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let url = Url::parse(&whole).map_err(|error| invalid(error.to_string()))?;
    match url.scheme() {
        "http" => Ok(url),
        scheme => Err(invalid(format!("a proxy over {scheme} is not supported"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_token() {
        let url = DiscoveryUrl::parse("http://h:1/v2/keys//disc/t/").expect("good");
        assert_eq!(url.as_str(), "http://h:1/v2/keys//disc/t/");
        let size = url.at("_config/size", "quorum=false");
        assert_eq!(
            size.as_str(),
            "http://h:1/v2/keys/disc/t/_config/size?quorum=false"
        );
        assert_eq!(url.at("", "").as_str(), "http://h:1/v2/keys/disc/t");
    }

    #[test]
    fn what_is_no_discovery_url() {
        for text in [
            "",
            "t",
            "http://h:1",
            "http://h:1//",
            "ftp://h/t",
            "http://u:p@h/t",
        ] {
            let parsed = DiscoveryUrl::parse(text);
            assert!(
                matches!(parsed, Err(DiscoveryError::InvalidUrl { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_proxy_may_lack_its_scheme() {
        let parsed = |text| parse_proxy(text).map(String::from).ok();
        assert_eq!(parsed("h:3128").as_deref(), Some("http://h:3128/"));
        assert_eq!(parsed("http://h").as_deref(), Some("http://h/"));
        assert_eq!(parsed("https://h"), None);
        assert_eq!(
            parsed("httpd.local:1").as_deref(),
            Some("http://httpd.local:1/")
        );
    }
}
