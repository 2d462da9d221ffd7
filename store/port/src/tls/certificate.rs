//! The validity and the subject's alternative names of a certificate (RFC 5280, 4.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::subject::after_issuer;
use crate::der::{OBJECT, OCTET_STRING, SEQUENCE, element};

const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;
/// `dNSName` of `GeneralName`.
const DNS_NAME: u8 = 0x82;
/// `iPAddress`.
const IP_ADDRESS: u8 = 0x87;

/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// The hosts that a certificate is for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AlternativeNames {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) hosts: Vec<String>,
}

/// The last second of its validity, in seconds since 1970; `None` for damage.
pub(crate) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (validity, _) = element(after_issuer(certificate)?, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    Some(time(rest)?.0)
}

/// The names; none where the extension is missing, `None` for damage.
pub(crate) fn alternative_names(certificate: &[u8]) -> Option<AlternativeNames> {
    let mut names = AlternativeNames::default();
    // Validity, subject, key.
    let mut rest = after_issuer(certificate)?;
    for _ in 0..3 {
        (_, rest) = element(rest, SEQUENCE)?;
    }
    // Unique identifiers may precede the extensions.
    for tag in [0x81, 0xa1, 0x82, 0xa2] {
        rest = element(rest, tag).map_or(rest, |(_, after)| after);
    }
    if rest.is_empty() {
        return Some(names);
    }
    let (mut extensions, _) = element(element(rest, EXTENSIONS)?.0, SEQUENCE)?;
    while !extensions.is_empty() {
        let (extension, after) = element(extensions, SEQUENCE)?;
        extensions = after;
        let (kind, value) = element(extension, OBJECT)?;
        if kind == SUBJECT_ALT_NAME {
            let value = element(value, BOOLEAN).map_or(value, |(_, after)| after);
            names.add(element(element(value, OCTET_STRING)?.0, SEQUENCE)?.0)?;
        }
    }
    Some(names)
}

impl AlternativeNames {
    fn add(&mut self, mut names: &[u8]) -> Option<()> {
        while let Some(tag) = names.first() {
            let (name, after) = element(names, *tag)?;
            names = after;
            match *tag {
                DNS_NAME => self.hosts.push(String::from_utf8(name.to_vec()).ok()?),
                IP_ADDRESS => self.addresses.push(address(name)?),
                _ => {}
            }
        }
        Some(())
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// A time of a validity, in seconds since 1970, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (text, years, rest) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, 2, rest),
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            (text, 4, rest)
        }
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if text.len() != years + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let year = match (years, number(0, years)?) {
        (2, year) if year < 50 => 2000 + year,
        (2, year) => 1900 + year,
        (_, year) => year,
    };
    let part = |at: usize| number(years + 2 * at, years + 2 * at + 2);
    let days = civil_days(year, part(0)?, part(1)?);
    Some((
        days * 86_400 + part(2)? * 3600 + part(3)? * 60 + part(4)?,
        rest,
    ))
}

/// The days from 1970 to a date of the Gregorian calendar, in the way of Howard Hinnant's
/// `days_from_civil`.
pub fn civil_days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(names: &[&str], end: (i32, u8, u8)) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let more = SanType::Rfc822Name("a@b".try_into().unwrap());
        params.subject_alt_names.push(more);
        params.not_after = date_time_ymd(end.0, end.1, end.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_addresses_are_found() {
        let of = certificate(
            &["a.example", "*.b.example", "10.0.0.1", "::1"],
            (2049, 1, 1),
        );
        let names = alternative_names(&of).unwrap();
        assert_eq!(names.hosts, ["a.example", "*.b.example"]);
        let expected: [IpAddr; 2] = [[10, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(names.addresses, expected);
        for length in 0..of.len() {
            assert_eq!(alternative_names(&of[..length]), None);
            assert_eq!(not_after(&of[..length]), None);
        }
    }

    /// The second form is for years from 2050 on (RFC 5280, 4.1.2.5).
    #[test]
    fn the_end_is_read_in_both_forms() {
        for (date, seconds) in [
            ((1999, 12, 31), 946_598_400),
            ((2024, 2, 29), 1_709_164_800),
            ((2050, 1, 1), 2_524_608_000),
            ((4096, 1, 1), 67_090_118_400),
        ] {
            assert_eq!(
                not_after(&certificate(&[], date)),
                Some(seconds),
                "{date:?}"
            );
        }
    }
}
