//! The value of `grpc-timeout`, for members and proxies: gRPC over HTTP/2, "Timeout".

use std::time::Duration;

/// Digits of the value at most.
const DIGITS_MAX: usize = 8;

/// Parses one to eight digits and a unit; `None` if the value is malformed.
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if DIGITS_MAX < digits.len() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let cases: [(&[u8], _); 10] = [
            (b"5S", Some(Duration::from_secs(5))),
            (b"250m", Some(Duration::from_millis(250))),
            (b"99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            (b"7n", Some(Duration::from_nanos(7))),
            (b"", None),
            (b"S", None),
            (b"5", None),
            (b"5s", None),
            (b"-5S", None),
            (b"123456789S", None),
        ];
        for (value, expected) in cases {
            assert_eq!(grpc_timeout(value), expected, "{value:?}");
        }
    }
}
