//! The metrics of files that are read again when they change: TLS files, and keys of JWT tokens.

use std::time::UNIX_EPOCH;

use keelson_port::FileReadings;
use keelson_port::metrics::Exposition;

/// `all` has one entry for each set of files.
pub(super) fn write(out: &mut Exposition, all: &[FileReadings]) {
    if all.is_empty() {
        return;
    }
    let mut each = |name, help, kind, value: fn(&FileReadings) -> u64| {
        out.begin(name, help, kind);
        for of in all {
            let files: Vec<_> = of
                .paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let labels = [("files", &*files.join(",")), ("kind", of.what)];
            out.series(name, &labels, value(of));
        }
    };
    each(
        "keelson_files_reload_successful",
        "Whether the files in use are those on the disk, as of the last reading.",
        "gauge",
        |of| of.is_current.into(),
    );
    each(
        "keelson_files_reload_success_timestamp_seconds",
        "When the files were read and used last, since 1970.",
        "gauge",
        |of| {
            of.succeeded
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        },
    );
    each(
        "keelson_files_reload_failures_total",
        "How often files could not be used, so that the former ones stayed in use.",
        "counter",
        |of| of.failures,
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_set_of_files_has_its_series() {
        let of = |path: &str, what, is_current: bool| FileReadings {
            what,
            paths: vec![path.into(), "key.pem".into()],
            succeeded: UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
            failures: 3 * u64::from(!is_current),
            is_current,
        };
        let all = [of("a.pem", "TLS files", true), of("b.pem", "keys", false)];
        let mut out = Exposition::default();
        write(&mut out, &all);
        let text = out.into_text();
        let (tls, keys) = (
            "{files=\"a.pem,key.pem\",kind=\"TLS files\"}",
            "{files=\"b.pem,key.pem\",kind=\"keys\"}",
        );
        for (name, of, value) in [
            ("successful", tls, "1"),
            ("successful", keys, "0"),
            ("success_timestamp_seconds", tls, "1700000000"),
            ("failures_total", tls, "0"),
            ("failures_total", keys, "3"),
        ] {
            let line = format!("keelson_files_reload_{name}{of} {value}");
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
