//! JSON as Go's `encoding/json` writes it, directly into a buffer.

use bytes::{BufMut, BytesMut};

/// The bytes that need no escape in a string.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = !matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    plain
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes a string. Like Go, it escapes the characters of HTML markup, U+2028 and U+2029, and
/// writes U+FFFD for each byte that is not UTF-8.
pub(super) fn string(out: &mut BytesMut, text: &[u8]) {
    out.put_u8(b'"');
    if text.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        out.extend_from_slice(text);
    } else {
        for chunk in text.utf8_chunks() {
            escaped(out, chunk.valid().as_bytes());
            for _ in chunk.invalid() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
    }
    out.put_u8(b'"');
}

/// Writes valid UTF-8 with escapes.
fn escaped(out: &mut BytesMut, text: &[u8]) {
    let mut shown = 0;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let width = match byte {
            byte if PLAIN[usize::from(byte)] => 0,
            0xe2 if matches!(text.get(at..at + 3), Some([_, 0x80, 0xa8 | 0xa9])) => 3,
            byte if byte.is_ascii() => 1,
            _ => 0,
        };
        if width != 0 {
            out.extend_from_slice(&text[shown..at]);
            escape(out, &text[at..at + width]);
            shown = at + width;
        }
        at += width.max(1);
    }
    out.extend_from_slice(&text[shown..]);
}

fn escape(out: &mut BytesMut, character: &[u8]) {
    match character {
        b"\"" | b"\\" => out.extend_from_slice(&[b'\\', character[0]]),
        b"\n" => out.extend_from_slice(b"\\n"),
        b"\r" => out.extend_from_slice(b"\\r"),
        b"\t" => out.extend_from_slice(b"\\t"),
        [0xe2, 0x80, last] => {
            out.extend_from_slice(b"\\u202");
            out.put_u8(HEX[usize::from(last & 0xf)]);
        }
        character => {
            let byte = usize::from(character[0]);
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[byte >> 4], HEX[byte & 0xf]]);
        }
    }
}

/// Writes an unsigned number.
pub(super) fn number(out: &mut BytesMut, number: u64) {
    digits(out, number, 1);
}

/// Writes a signed number.
pub(super) fn signed(out: &mut BytesMut, number: i64) {
    if number < 0 {
        out.put_u8(b'-');
    }
    digits(out, number.unsigned_abs(), 1);
}

/// Writes a number with at least `width` digits.
fn digits(out: &mut BytesMut, mut number: u64, width: usize) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    while number != 0 {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
    out.extend_from_slice(&buffer[at.min(buffer.len() - width)..]);
}

/// Writes a list of strings; like Go, null for a nil list.
pub(super) fn strings<T: AsRef<str>>(out: &mut BytesMut, list: Option<&[T]>) {
    let Some(list) = list else {
        out.extend_from_slice(b"null");
        return;
    };
    out.put_u8(b'[');
    for (at, text) in list.iter().enumerate() {
        if at != 0 {
            out.put_u8(b',');
        }
        string(out, text.as_ref().as_bytes());
    }
    out.put_u8(b']');
}

const NS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Writes a time in ns since 1970 as Go writes a `time.Time` in UTC: RFC 3339 without trailing
/// zeros in the fraction.
pub(crate) fn time(out: &mut BytesMut, ns: i64) {
    let seconds = ns.div_euclid(NS_PER_SECOND);
    let (year, month, day) = date(seconds.div_euclid(SECONDS_PER_DAY));
    let second_of_day = unsigned(seconds.rem_euclid(SECONDS_PER_DAY));
    let mut part = |number, width, after| {
        digits(out, number, width);
        out.put_u8(after);
    };
    part(year, 4, b'-');
    part(month, 2, b'-');
    part(day, 2, b'T');
    part(second_of_day / 3600, 2, b':');
    part(second_of_day / 60 % 60, 2, b':');
    digits(out, second_of_day % 60, 2);
    let mut fraction = unsigned(ns.rem_euclid(NS_PER_SECOND));
    let mut width = 9;
    if fraction != 0 {
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        out.put_u8(b'.');
        digits(out, fraction, width);
    }
    out.put_u8(b'Z');
}

/// A time in ns since 1970 as text, as Go writes it in UTC.
pub fn time_text(ns: i64) -> String {
    let mut out = BytesMut::new();
    time(&mut out, ns);
    String::from_utf8_lossy(&out).into_owned()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).expect("not negative within these years")
}

/// Year, month and day of a day since 1970: Howard Hinnant's `civil_from_days`. 64 bits of
/// nanoseconds stay within the years 1677 to 2262.
fn date(day: i64) -> (u64, u64, u64) {
    let day = unsigned(day + 719_468);
    let era = day / 146_097;
    let day_of_era = day % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = match month_from_march {
        march @ 0..10 => march + 3,
        january => january - 9,
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_by_etcd() {
        for (text, expected) in [
            (&b"plain ~"[..], r#""plain ~""#),
            (
                b"a\x00\x01\x1f\"\\/<>&",
                r#""a\u0000\u0001\u001f\"\\/\u003c\u003e\u0026""#,
            ),
            (b"\x7f\x08\x0c\n\r\t", "\"\x7f\\u0008\\u000c\\n\\r\\t\""),
            (
                "\u{2028}\u{2029}\u{2027}\u{e9}\u{1f600}".as_bytes(),
                "\"\\u2028\\u2029\u{2027}\u{e9}\u{1f600}\"",
            ),
            (b"\xff\xed\xa0\x80", r#""\ufffd\ufffd\ufffd\ufffd""#),
            (
                b"\xc0\x80\xf4\x90\x80\x80",
                r#""\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd""#,
            ),
            (b"\xe2\x82x\x80", r#""\ufffd\ufffdx\ufffd""#),
        ] {
            assert_eq!(written(|out| string(out, text)), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_have_no_leading_zeros() {
        assert_eq!(written(|out| number(out, 0)), "0");
        assert_eq!(written(|out| number(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| signed(out, i64::MIN)), i64::MIN.to_string());
    }

    #[test]
    fn times_are_gos() {
        for (ns, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_000_000_000, "1970-01-01T00:00:01Z"),
            (951_782_400_120_000_000, "2000-02-29T00:00:00.12Z"),
            (1_795_401_553_000_000_001, "2026-11-23T02:39:13.000000001Z"),
            (3_348_657_507_750_579_428, "2076-02-11T14:38:27.750579428Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(written(|out| time(out, ns)), expected);
        }
    }
}
