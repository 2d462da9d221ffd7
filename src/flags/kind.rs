//! The types of flag values. The messages are those of Go's `flag` package, as in etcd.

use std::time::Duration;

use keelson_store::config::{Url, initial_cluster};

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Any text, which is never written to a log.
    Secret,
    /// Go's bool: without a value it means true; a value needs `=`.
    Bool,
    /// A whole number from 0.
    Count,
    /// A whole number up to 2^32 - 1.
    Count32,
    /// A whole number that may be negative.
    Signed,
    /// Go's duration: `300ms`, `1h30m`.
    Duration,
    /// A number of hours or revisions, or a duration; etcd parses it late.
    Retention,
    /// One or more URLs, comma separated.
    Urls,
    /// URLs, or an empty text.
    MaybeUrls,
    /// `name=url,...`, or an empty text.
    Cluster,
    /// `host:port`, for the flags of etcd 0.4.
    HostPort,
    /// One of a few words.
    OneOf(&'static [&'static str]),
}

impl Kind {
    /// Checks `text`; the error is Go's text.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Text | Kind::Secret | Kind::Retention => Ok(()),
            Kind::Bool => parse_bool(text)
                .map(drop)
                .ok_or_else(|| "parse error".to_owned()),
            Kind::Count => parse_count(text, u64::MAX).map(drop),
            Kind::Count32 => parse_count(text, u64::from(u32::MAX)).map(drop),
            Kind::Signed => parse_signed(text).map(drop),
            Kind::Duration => parse_duration(text)
                .map(drop)
                .ok_or_else(|| "parse error".to_owned()),
            Kind::Urls => Url::parse_list(text)
                .map(drop)
                .map_err(|error| error.to_string()),
            Kind::MaybeUrls if text.is_empty() => Ok(()),
            Kind::MaybeUrls => Kind::Urls.check(text),
            // etcd parses it late: a bad one is a fault of the configuration (exit 1), not of the
            // command line (exit 2).
            Kind::Cluster => Ok(()),
            Kind::HostPort => Url::parse(&format!("http://{text}"))
                .map(drop)
                .map_err(|error| error.to_string()),
            Kind::OneOf(words) if words.contains(&text) => Ok(()),
            Kind::OneOf(words) => Err(format!("invalid value, choose one of {}", words.join(", "))),
        }
    }
}

/// Go's spellings of true and false.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Parses a number as Go does: `0x`, `0o`, `0b` and a leading `0` choose the base.
pub(crate) fn parse_count(text: &str, max: u64) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err("parse error".to_owned());
    }
    match u64::from_str_radix(digits, base) {
        Ok(value) if value <= max => Ok(value),
        _ => Err("value out of range".to_owned()),
    }
}

/// Parses a number with a sign.
pub(crate) fn parse_signed(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = parse_count(digits, i64::MAX.unsigned_abs())?.cast_signed();
    Ok(if negative { -value } else { value })
}

/// Go's `time.ParseDuration`, without negative values.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit_seconds = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[letters..];
        let part = Duration::try_from_secs_f64(number * unit_seconds).ok()?;
        total = total.checked_add(part)?;
    }
    if text.is_empty() { None } else { Some(total) }
}

/// Whether a retention keeps all revisions.
pub(crate) fn is_no_retention(text: &str) -> bool {
    parse_count(text, 0).is_ok() || parse_duration(text) == Some(Duration::ZERO)
}

/// Parses Go's duration, for clap.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "give a duration such as 30s or 1m0s".to_owned())
}

/// Parses `name=url,...`. It is here so that `options.rs` does not depend on the store's parser.
pub(crate) fn parse_cluster(text: &str) -> Result<Vec<(String, Url)>, String> {
    initial_cluster::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_go_reads_them() {
        for (kind, good, bad) in [
            (Kind::Bool, "T", "maybe"),
            (Kind::Count, "0x10", "-1"),
            (Kind::Count32, "4294967295", "4294967296"),
            (Kind::Signed, "-8589934592", "1.5"),
            (Kind::Duration, "1h30m", "5"),
            (Kind::Urls, "http://a:1,http://b:2", ""),
            (Kind::MaybeUrls, "", "foo"),
            (Kind::HostPort, "10.0.0.1:4001", "10.0.0.1"),
            (Kind::OneOf(&["new", "existing"]), "new", "maybe"),
        ] {
            assert_eq!(kind.check(good), Ok(()), "{kind:?} {good}");
            assert!(kind.check(bad).is_err(), "{kind:?} {bad}");
        }
    }

    #[test]
    fn numbers_and_durations() {
        assert_eq!(parse_count("010", 100), Ok(8));
        assert_eq!(parse_count("0", 100), Ok(0));
        assert_eq!(
            parse_count("99999999999999999999", u64::MAX),
            Err("value out of range".into())
        );
        assert_eq!(parse_signed("-5"), Ok(-5));
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(
            parse_duration("1h2m3s4ms"),
            Some(Duration::from_millis(3_723_004))
        );
        for bad in ["", "s", "1", "1x", "1s2", "-1s", "1e999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
