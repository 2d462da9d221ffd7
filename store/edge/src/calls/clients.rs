//! Counts of calls by the API version that clients name in the metadata `client-api-version`.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use keelson_port::metrics::Exposition;
use parking_lot::RwLock;

/// The value for clients that name none.
const UNKNOWN: &str = "unknown";

/// Versions that are counted by themselves. Later ones count as `OTHER`: a client chooses the text.
const VERSIONS_MAX: usize = 32;
/// Longer texts count as `OTHER`.
const VERSION_BYTES_MAX: usize = 32;
const OTHER: &str = "other";

const NAME: &str = "etcd_server_client_requests_total";

/// Unary calls and streams, by version.
#[derive(Debug, Default)]
pub(super) struct ClientVersions {
    /// Of clients that name none; without a lock, since many do.
    unknown: [AtomicU64; 2],
    named: RwLock<Vec<(Box<str>, [AtomicU64; 2])>>,
}

impl ClientVersions {
    /// Counts a call.
    pub(super) fn count(&self, headers: &HeaderMap, is_stream: bool) {
        let Some(value) = headers.get("client-api-version") else {
            self.unknown[usize::from(is_stream)].fetch_add(1, Ordering::Relaxed);
            return;
        };
        let version = match value.to_str() {
            Ok(version) if version.len() <= VERSION_BYTES_MAX => version,
            _ => OTHER,
        };
        let counted = self.add(version, is_stream) || self.learn(version, is_stream);
        if !counted && !self.add(OTHER, is_stream) {
            self.learn(OTHER, is_stream);
        }
    }

    /// Whether the version is counted by itself.
    fn add(&self, version: &str, is_stream: bool) -> bool {
        let known = self.named.read();
        let counts = known.iter().find(|(known, _)| **known == *version);
        if let Some((_, counts)) = counts {
            counts[usize::from(is_stream)].fetch_add(1, Ordering::Relaxed);
        }
        counts.is_some()
    }

    /// Counts a version for the first time, if there is room.
    fn learn(&self, version: &str, is_stream: bool) -> bool {
        // Before the exclusive lock: clients with texts of their own must not hold up the others.
        if version != OTHER && VERSIONS_MAX <= self.named.read().len() {
            return false;
        }
        {
            let mut known = self.named.write();
            let is_known = known.iter().any(|(known, _)| **known == *version);
            if !is_known && VERSIONS_MAX <= known.len() && version != OTHER {
                return false;
            }
            if !is_known {
                known.push((version.into(), Default::default()));
            }
        }
        self.add(version, is_stream)
    }

    /// Writes the series.
    pub(super) fn write(&self, out: &mut Exposition) {
        let known = self.named.read();
        let known = known.iter().map(|(version, counts)| (&**version, counts));
        let all = std::iter::once((UNKNOWN, &self.unknown)).chain(known);
        let help = "The total number of client requests per client version.";
        out.begin(NAME, help, "counter");
        for (version, counts) in all {
            for (kind, count) in ["unary", "stream"].iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                if count != 0 {
                    let labels = [("client_api_version", version), ("type", kind)];
                    out.series(NAME, &labels, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(version: &str) -> HeaderMap {
        let value = HeaderValue::from_str(version).expect("a header");
        [(http::HeaderName::from_static("client-api-version"), value)]
            .into_iter()
            .collect()
    }

    #[test]
    fn versions_are_bounded() {
        let versions = ClientVersions::default();
        versions.count(&HeaderMap::new(), true);
        versions.count(&headers("3.5"), false);
        versions.count(&headers("3.5"), false);
        versions.count(&headers(&"x".repeat(33)), false);
        for number in 0..100 {
            versions.count(&headers(&number.to_string()), false);
        }
        let mut out = Exposition::default();
        versions.write(&mut out);
        let text = out.into_text();
        for (labels, count) in [
            ("client_api_version=\"unknown\",type=\"stream\"", 1),
            ("client_api_version=\"3.5\",type=\"unary\"", 2),
            ("client_api_version=\"29\",type=\"unary\"", 1),
            ("client_api_version=\"other\",type=\"unary\"", 1 + 70),
        ] {
            let line = format!("{NAME}{{{labels}}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert_eq!(text.lines().count(), 2 + 1 + VERSIONS_MAX);
    }
}
