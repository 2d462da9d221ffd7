//! The metric of the certificates in use.

use keelson_port::CertificateEnd;
use keelson_port::metrics::Exposition;

/// The days that are left of each. `ends` are in order.
pub(super) fn write(out: &mut Exposition, mut ends: Vec<CertificateEnd>) {
    if ends.is_empty() {
        return;
    }
    // A bundle may have several of one name, and a series may stand only once: the earliest end.
    ends.dedup_by(|later, one| later.path == one.path && later.common_name == one.common_name);
    let name = "keelson_tls_certificate_days_left";
    out.begin(name, "Days until a certificate in use expires.", "gauge");
    for end in &ends {
        let file = end.path.display().to_string();
        let labels = [("file", &*file), ("name", &*end.common_name)];
        out.series(name, &labels, end.days_left());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn two_certificates_of_one_name_are_one_series() {
        let end = |path: &str, common_name: &str, not_after| CertificateEnd {
            path: Path::new(path).to_owned(),
            common_name: common_name.to_owned(),
            not_after,
        };
        let mut ends = vec![
            end("ca.pem", "ca", 100_000_000_000),
            end("ca.pem", "ca", 0),
            end("ca.pem", "other", 0),
            end("server.pem", "ca", 0),
        ];
        ends.sort();
        let mut out = Exposition::default();
        write(&mut out, ends);
        let text = out.into_text();
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(series.len(), 3, "{text}");
        assert!(
            series[0].contains("file=\"ca.pem\",name=\"ca\"} -"),
            "{text}"
        );
    }
}
