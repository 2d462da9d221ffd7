//! Header fields that end at the next hop, and those that a proxy adds.

use std::net::SocketAddr;

use http::header::{CONNECTION, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// Names each proxy that has forwarded a request; for loop detection.
pub(crate) const PROXIED_BY: HeaderName = HeaderName::from_static("keelson-proxied-by");

/// In a refusal: the proxy that had forwarded the request before.
pub(crate) const LOOP: HeaderName = HeaderName::from_static("keelson-proxy-loop");

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The fields of etcd's list and of RFC 9110, 7.6.1.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether a field ends at the next hop, in messages whose `Connection` names no other fields.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// The same for a name in any case.
pub(crate) fn is_hop_by_hop_name(name: &str) -> bool {
    HOP_BY_HOP
        .iter()
        .any(|hop| hop.as_str().len() == name.len() && name.eq_ignore_ascii_case(hop.as_str()))
}

/// Removes the fields that end at the next hop.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The fields that `Connection` names.
pub(crate) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    words(headers, &CONNECTION)
        .filter_map(|word| HeaderName::from_bytes(word.as_bytes()).ok())
        .collect()
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',').map(str::trim))
}

/// `X-Forwarded-For` with the client appended, as Go's reverse proxy does: what clients sent stays
/// byte for byte.
pub(crate) fn forwarded_for(headers: &HeaderMap, client: SocketAddr) -> HeaderValue {
    let client = client.ip().to_canonical().to_string();
    let before = headers.get_all(&X_FORWARDED_FOR).into_iter();
    let all: Vec<&[u8]> = before
        .map(HeaderValue::as_bytes)
        .chain([client.as_bytes()])
        .collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).expect("bytes of fields and an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_goes_too() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "X-One, close"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-three"]);
    }

    #[test]
    fn clients_are_appended() {
        let client = "[::ffff:10.0.0.9]:4711".parse().unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded_for(&headers, client), "10.0.0.9");
        headers.append(
            X_FORWARDED_FOR,
            HeaderValue::from_static("10.0.0.7,10.0.0.8"),
        );
        assert_eq!(
            forwarded_for(&headers, client),
            "10.0.0.7,10.0.0.8, 10.0.0.9"
        );
    }

    #[test]
    fn a_list_of_clients_that_is_not_ascii_is_kept() {
        let client = "10.0.0.9:4711".parse().unwrap();
        let mut headers = HeaderMap::new();
        for value in ["\u{e9}", "b"] {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let all = forwarded_for(&headers, client);
        assert_eq!(all.as_bytes(), "\u{e9}, b, 10.0.0.9".as_bytes());
    }
}
