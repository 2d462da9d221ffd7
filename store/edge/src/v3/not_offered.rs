//! etcd's services that Keelson does not offer: their names, and the alternatives.

/// A service, and the text of its answer, with code 12.
struct NotOffered {
    service: &'static str,
    text: &'static str,
}

/// All services that are not offered.
const NOT_OFFERED: [NotOffered; 1] = [NotOffered {
    service: "etcdserverpb.Auth",
    text: "Auth with its users and roles is not offered by this version of Keelson; use \
               certificates of clients (--client-cert-auth), and /v2/auth for the v2 API",
}];

/// The text of the answer to a call of a service, if it is not offered.
pub(super) fn text(service: &str) -> Option<&'static str> {
    let mut all = NOT_OFFERED.iter();
    all.find(|known| known.service == service)
        .map(|known| known.text)
}
