//! Times as Go writes them in JSON.

/// Go's form of a time (RFC 3339) in ns since 1970; 0 for Go's time without a value.
pub fn time_ns(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    if year <= 1 {
        return Some(0);
    }
    let zone = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let mut parts = clock.splitn(3, ':');
    let hour: i64 = parts.next()?.parse().ok()?;
    let minute: i64 = parts.next()?.parse().ok()?;
    let (second, fraction) = parts.next().map(|s| s.split_once('.').unwrap_or((s, "")))?;
    let second: i64 = second.parse().ok()?;
    let in_range = (2..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let offset = match zone.split_at(1) {
        ("Z", _) => 0,
        (sign, by) => {
            let (hours, minutes) = by.split_once(':')?;
            let minutes = hours.parse::<u8>().ok().map(i64::from)? * 60
                + minutes.parse::<u8>().ok().map(i64::from)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let days = keelson_port::civil_days(year, month, day);
    let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_times_are_read() {
        let cases = [
            ("0001-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("2026-11-29T22:37:44.5Z", Some(1_795_991_864_500_000_000)),
            (
                "2026-11-30T00:37:44.5+02:00",
                Some(1_795_991_864_500_000_000),
            ),
            ("2024-02-29T12:00:00-01:00", Some(1_709_211_600_000_000_000)),
            ("yesterday", None),
            ("2024-02-29T12", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time_ns(text), expected, "{text}");
        }
    }
}
