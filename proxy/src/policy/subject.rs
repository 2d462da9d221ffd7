//! What a request is about, and whether it only reads: by its method and path.

use http::Method;

const KEYS: &str = "/v2/keys";
const CLUSTER: [&str; 3] = ["/v2/members", "/v2/machines", "/v2/auth"];

/// Parts of paths of the v3 JSON gateway. Each version of the gateway has a prefix of its own.
const CLUSTER_V3: [&str; 3] = ["/cluster/member/", "/auth/", "/lease/leases"];

/// Ends of the paths of the v3 JSON gateway whose requests only read, or renew a lease: they may be
/// repeated.
const GATEWAY_READS: [&str; 13] = [
    "/kv/range",
    "/cluster/member/list",
    "/maintenance/status",
    "/maintenance/hash",
    "/lease/leases",
    "/lease/timetolive",
    "/lease/keepalive",
    "/auth/authenticate",
    "/auth/status",
    "/auth/user/get",
    "/auth/user/list",
    "/auth/role/get",
    "/auth/role/list",
];

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// Under `/v2/keys`: members answer within a bounded time and send `X-Etcd-Index`, and errors
    /// have their own form.
    Keys,
    /// Members, accounts and leases: answers carry no index.
    Cluster,
    /// Anything else.
    Other,
}

impl Subject {
    pub(crate) fn of(path: &str) -> Subject {
        if is_keys(path) {
            Subject::Keys
        } else if CLUSTER.iter().any(|prefix| path.starts_with(prefix))
            || is_gateway(path) && CLUSTER_V3.iter().any(|part| path.contains(part))
        {
            Subject::Cluster
        } else {
            Subject::Other
        }
    }
}

/// Whether a path belongs to the v2 keys API.
pub(crate) fn is_keys(path: &str) -> bool {
    path.starts_with(KEYS)
}

/// Whether a path belongs to the v3 JSON gateway.
pub(crate) fn is_gateway(path: &str) -> bool {
    path.starts_with("/v3")
}

/// Whether a request changes nothing that a repetition would change again, so that it may be sent
/// any number of times.
pub(crate) fn reads(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => true,
        Method::POST => is_gateway(path) && GATEWAY_READS.iter().any(|end| path.ends_with(end)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_known_by_method_and_path() {
        let cases = [
            (Method::GET, "/v2/keys/a", true),
            (Method::HEAD, "/version", true),
            (Method::PUT, "/v2/keys/a", false),
            (Method::DELETE, "/v2/keys/a", false),
            (Method::POST, "/v2/keys/kv/range", false),
            (Method::POST, "/v3/kv/range", true),
            (Method::POST, "/v3beta/kv/range", true),
            (Method::POST, "/v3/kv/put", false),
            (Method::POST, "/v3/kv/txn", false),
            (Method::POST, "/v3/lease/keepalive", true),
            (Method::POST, "/v3/lease/grant", false),
            (Method::POST, "/v3/auth/user/list", true),
            (Method::POST, "/v3/auth/user/add", false),
        ];
        for (method, path, expected) in cases {
            assert_eq!(reads(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn subjects_are_known_by_path() {
        let cases = [
            ("/v2/keys/v2/members", Subject::Keys),
            ("/v2/members", Subject::Cluster),
            ("/v2/members/leader", Subject::Cluster),
            ("/v2/auth/users/root", Subject::Cluster),
            ("/v3/cluster/member/list", Subject::Cluster),
            ("/v3alpha/auth/user/add", Subject::Cluster),
            ("/v3/lease/leases", Subject::Cluster),
            ("/v2/machines", Subject::Cluster),
            ("/v3/kv/range", Subject::Other),
            ("/v2/stats/self", Subject::Other),
            ("/version", Subject::Other),
        ];
        for (path, expected) in cases {
            assert_eq!(Subject::of(path), expected, "{path}");
        }
    }
}
