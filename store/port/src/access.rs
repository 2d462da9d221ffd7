//! The origins and host names that a port accepts: `--cors` and `--host-whitelist`.
//!
//! etcd's rules, to the letter of its answers. A listed origin is compared as it is written; a host
//! is compared without its port, and only where TLS has not proven the name already.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};

/// The origins and hosts that a port accepts. The default accepts all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `None`: all.
    origins: Option<Arc<BTreeSet<String>>>,
    /// `None`: all.
    hosts: Option<Arc<BTreeSet<String>>>,
}

/// The CORS headers of an answer, where not all origins may read it.
#[derive(Debug)]
pub struct CrossOrigin(Option<HeaderValue>);

impl Access {
    /// Of these; none, or "*" among them, are all.
    pub fn new(origins: Vec<String>, hosts: Vec<String>) -> Access {
        let listed = |names: Vec<String>| {
            let all = names.is_empty() || names.iter().any(|name| name == "*");
            (!all).then(|| Arc::new(names.into_iter().collect()))
        };
        Access {
            origins: listed(origins),
            hosts: listed(hosts),
        }
    }

    /// Whether pages of any origin may read any answer.
    pub fn takes_all_origins(&self) -> bool {
        self.origins.is_none()
    }

    /// Whether requests to any host are taken.
    pub(crate) fn takes_all_hosts(&self) -> bool {
        self.hosts.is_none()
    }

    /// The change that the answer to a request needs; `None`: no change.
    pub fn cross_origin(&self, request: &HeaderMap) -> Option<Box<CrossOrigin>> {
        let listed = self.origins.as_ref()?;
        let origin = request.get(ORIGIN);
        let is_listed = |origin: &&HeaderValue| {
            let origin = origin.to_str();
            origin.is_ok_and(|origin| listed.contains(origin))
        };
        Some(Box::new(CrossOrigin(origin.filter(is_listed).cloned())))
    }

    /// Whether requests to a host, as a `Host` header has it, are taken.
    pub fn takes_host(&self, host: &[u8]) -> bool {
        let Some(listed) = &self.hosts else {
            return true;
        };
        let name = std::str::from_utf8(host).map(without_port);
        name.is_ok_and(|name| listed.contains(name))
    }

    /// etcd's refusal of a request to another host: 421.
    pub fn misdirected(&self, request: &Parts) -> Option<Response<Bytes>> {
        self.misdirected_to(&request.uri, &request.headers)
    }

    pub(crate) fn misdirected_to(&self, uri: &Uri, headers: &HeaderMap) -> Option<Response<Bytes>> {
        self.hosts.as_ref()?;
        let named = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
        let host = uri
            .authority()
            .map_or(named, |host| host.as_str().as_bytes());
        if self.takes_host(host) {
            return None;
        }
        let host = String::from_utf8_lossy(host);
        let mut response = Response::new(Bytes::from(unrecognized(without_port(&host))));
        *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, plain);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}

impl CrossOrigin {
    /// Sets the headers of an answer that the origin may read, and removes those that a handler has
    /// set.
    pub fn mend(&self, headers: &mut HeaderMap) {
        let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return;
        }
        for name in [
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_HEADERS,
        ] {
            headers.remove(name);
        }
        if let Some(origin) = &self.0 {
            allow_origin(headers, origin.clone());
        }
    }
}

/// The headers with which pages of an origin, or of all ("*"), may read an answer.
pub fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    let allowed = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
}

/// Go's `SplitHostPort`, or all of it.
fn without_port(host: &str) -> &str {
    let Some((name, _)) = host.rsplit_once(':') else {
        return host;
    };
    match name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        Some(address) => address,
        None if name.contains(':') || name.contains('[') => host,
        None => name,
    }
}

fn unrecognized(host: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host:?}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_of(access: &Access, origin: &'static str) -> Option<HeaderValue> {
        let mut request = HeaderMap::new();
        request.insert(ORIGIN, HeaderValue::from_static(origin));
        let mut answer = HeaderMap::new();
        allow_origin(&mut answer, HeaderValue::from_static("*"));
        if let Some(mending) = access.cross_origin(&request) {
            mending.mend(&mut answer);
        }
        answer.remove(ACCESS_CONTROL_ALLOW_ORIGIN)
    }

    #[test]
    fn only_listed_origins_may_read() {
        let ui = "https://ui.example:443";
        let listed = Access::new(vec![ui.to_owned()], vec![]);
        assert_eq!(origin_of(&listed, ui), Some(HeaderValue::from_static(ui)));
        assert_eq!(origin_of(&listed, "https://evil.example:443"), None);
        assert_eq!(origin_of(&listed, ""), None);
        for all in [vec![], vec!["*".to_owned()]] {
            let all = Access::new(all, vec![]);
            assert_eq!(origin_of(&all, "x"), Some(HeaderValue::from_static("*")));
        }
    }

    #[test]
    fn only_listed_hosts_are_taken() {
        let hosts = ["etcd.local", "::1", "127.0.0.1"].map(str::to_owned);
        let listed = Access::new(vec![], hosts.to_vec());
        for (host, taken) in [
            ("etcd.local", true),
            ("etcd.local:2379", true),
            ("[::1]:2379", true),
            ("127.0.0.1:1", true),
            ("evil.example:2379", false),
            ("etcd.local.evil.example", false),
            ("", false),
        ] {
            assert_eq!(listed.takes_host(host.as_bytes()), taken, "{host}");
            assert!(Access::default().takes_host(host.as_bytes()));
        }
        let request = http::Request::get("/health").header(HOST, "evil.example:2379");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let refused = listed.misdirected(&parts).unwrap();
        assert_eq!(refused.status(), 421);
        let text = String::from_utf8_lossy(refused.body()).into_owned();
        assert!(
            text.contains("e.g. etcd --host-whitelist \"evil.example\"\n"),
            "{text}"
        );
        assert!(Access::default().misdirected(&parts).is_none());
    }
}
