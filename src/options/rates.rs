//! The limits of rate of the client port.

use keelson_store::config::{RateLimit, RateLimits};

use crate::flags::Values;

/// Each limit with its burst.
const FLAGS: [(&str, &str); 2] = [
    ("connection-rate-limit", "connection-rate-burst"),
    ("user-rate-limit", "user-rate-burst"),
];

pub(super) fn rate_limits(values: &Values) -> RateLimits {
    let [connection, user] =
        FLAGS.map(|(limit, burst)| RateLimit::new(values.count32(limit), values.count32(burst)));
    RateLimits { connection, user }
}

/// Warnings of bursts that belong to no limit.
pub(super) fn bursts_without_limit(values: &Values) -> impl Iterator<Item = String> {
    let is_alone = move |(limit, burst): &(&str, &str)| {
        values.count32(limit) == 0 && values.count32(burst) != 0
    };
    let alone = FLAGS.into_iter().filter(is_alone);
    alone.map(|(limit, burst)| format!("--{burst} has no effect without --{limit}"))
}

/// Warnings of limits on a proxy. Its members have them, and count each connection of it.
pub(super) fn unlimited_proxy(values: &Values) -> impl Iterator<Item = String> {
    let limits = FLAGS.into_iter().map(|(limit, _)| limit);
    let given = limits.filter(move |limit| values.count32(limit) != 0);
    given.map(|limit| format!("--{limit} has no effect: a proxy leaves limits to the members"))
}

#[cfg(test)]
mod tests {
    use super::super::{MemberOptions, ProxyOptions};
    use super::*;
    use crate::flags::syntax::{Parsed, parse};

    fn values(line: &str) -> Values {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(Parsed::Member(values)) => values,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_limits_reach_a_member_and_are_off_by_default() {
        let limits = |line| {
            let options = MemberOptions::from_values(&values(line)).expect("good flags");
            (options.config.rate_limits, options.warnings)
        };
        assert_eq!(limits(""), (RateLimits::default(), vec![]));
        let (given, warnings) = limits("--connection-rate-limit 9 --user-rate-burst 4");
        let connection = RateLimit::new(9, 9);
        assert_eq!(
            given,
            RateLimits {
                connection,
                user: None
            }
        );
        let text = "--user-rate-burst has no effect without --user-rate-limit";
        assert_eq!(warnings, [text]);
        let (given, _) = limits("--user-rate-limit 5 --user-rate-burst 20");
        assert_eq!(given.user, RateLimit::new(5, 20));
    }

    #[test]
    fn a_proxy_says_that_it_has_no_limits() {
        let options = ProxyOptions::from_values(&values("--user-rate-limit 5"));
        let text = "--user-rate-limit has no effect: a proxy leaves limits to the members";
        assert_eq!(options.expect("good flags").warnings, [text]);
    }
}
