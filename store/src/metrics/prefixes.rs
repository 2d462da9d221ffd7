//! The ten prefixes with the most requests of each API's account of use.
//!
//! `/metrics` needs no user, and on `--listen-metrics-urls` no certificate, and prefixes are parts
//! of keys: they are only in extensive metrics, and with auth they are left out.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use keelson_port::metrics::Exposition;
use keelson_proto::keelsonpb::{KeySpace, PrefixUse};

/// The prefixes that have series.
const TOP: usize = 10;

/// Writes the series of the top prefixes. A prefix that is not among them any more has none; its
/// counts go on.
pub(super) fn write(out: &mut Exposition, mut prefixes: Vec<PrefixUse>) {
    prefixes.sort_by_key(|used| Reverse(requests(used)));
    let mut room = [TOP; 2];
    prefixes.retain(|used| {
        let room = &mut room[usize::from(used.space() == KeySpace::V3)];
        let is_top = *room != 0;
        *room = room.saturating_sub(1);
        is_top
    });
    // Two that are not UTF-8 may look the same.
    let mut shown = BTreeSet::new();
    let labelled = prefixes.into_iter().filter_map(|used| {
        let api = match used.space() {
            KeySpace::V2 => "v2",
            KeySpace::V3 => "v3",
        };
        let prefix = String::from_utf8_lossy(&used.prefix).into_owned();
        shown
            .insert((api, prefix.clone()))
            .then_some((api, prefix, used))
    });
    let labelled: Vec<_> = labelled.collect();
    if labelled.is_empty() {
        return;
    }
    let mut metric =
        |name: &str, help: &str, values: fn(&PrefixUse) -> [(&'static str, u64); 2]| {
            out.begin(name, help, "counter");
            for (api, prefix, used) in &labelled {
                for (kind, value) in values(used) {
                    let labels = [("api", *api), ("prefix", prefix), ("type", kind)];
                    out.series(name, &labels, value);
                }
            }
        };
    metric(
        "keelson_prefix_requests_total",
        "Total number of this member's requests for keys of a prefix, of each API's ten \
         prefixes with the most.",
        |used| [("read", used.reads), ("write", used.writes)],
    );
    metric(
        "keelson_prefix_bytes_total",
        "Total size of the keys and values that were read and written, of the same prefixes.",
        |used| [("read", used.read_bytes), ("write", used.written_bytes)],
    );
}

fn requests(used: &PrefixUse) -> u64 {
    used.reads.saturating_add(used.writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(prefix: &[u8], reads: u64) -> PrefixUse {
        PrefixUse {
            space: KeySpace::V3.into(),
            prefix: bytes::Bytes::copy_from_slice(prefix),
            reads,
            read_bytes: 7 * reads,
            ..PrefixUse::default()
        }
    }

    /// Found: a busy API left the other without series.
    #[test]
    fn each_api_has_ten() {
        let all = (0..40_u8).map(|at| PrefixUse {
            space: if at < 12 { KeySpace::V2 } else { KeySpace::V3 }.into(),
            ..used(&[b'a' + at % 26, b'a' + at / 26], at.into())
        });
        let mut out = Exposition::default();
        write(&mut out, all.collect());
        let text = out.into_text();
        for api in ["v2", "v3"] {
            let begin = format!("keelson_prefix_requests_total{{api=\"{api}\"");
            let series = text.lines().filter(|line| line.starts_with(&begin));
            assert_eq!(series.count(), 2 * TOP, "{text}");
        }
    }

    #[test]
    fn ten_prefixes_have_series() {
        let mut all: Vec<_> = (0..40_u8)
            .map(|at| used(&[b'a' + at % 26, at], at.into()))
            .collect();
        all.push(used(b"/registry/\"pods\"/", 100));
        all.push(used(b"\xff", 99));
        all.push(used(b"\xfe", 98));
        let mut out = Exposition::default();
        write(&mut out, all);
        let text = out.into_text();
        let name = "keelson_prefix_requests_total{";
        let series: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
        // One of two that look the same is left out.
        assert_eq!(series.len(), 2 * (TOP - 1), "{text}");
        let first = "{api=\"v3\",prefix=\"/registry/\\\"pods\\\"/\",type=\"read\"} 100";
        assert_eq!(series[0], format!("keelson_prefix_requests_total{first}"));
        let distinct: BTreeSet<_> = series.iter().collect();
        assert_eq!(distinct.len(), series.len());
        let mut none = Exposition::default();
        write(&mut none, Vec::new());
        assert_eq!(none.into_text(), "");
    }
}
