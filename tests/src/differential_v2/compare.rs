//! Compares two replies to one request: what must be equal, and the tolerance for the rest.
//!
//! Compared exactly: status, names of headers, `X-Etcd-Index`, `Content-Type`, `Allow`, `Location`,
//! every field of the body in its order and to the letter. Not compared: dates, raft positions,
//! ids of clusters and members. Times of expiry may be two seconds apart, `ttl`s one.

use super::json::Json;
use crate::http::{Reply, Request};

/// Headers with values that depend on the run; their presence is compared.
const MASKED: [&str; 4] = ["date", "x-etcd-cluster-id", "x-raft-index", "x-raft-term"];

/// Seconds by which two expiries of one request may differ.
const EXPIRY_SLACK: i64 = 2;

/// Bytes by which the length of a HEAD's body may differ: the digits of an expiry.
const HEAD_SLACK: i64 = 32;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The differing part: `status`, `header <name>`, `answer`, `order`, or `body` and the place in
    /// it.
    pub what: String,
    /// Our value; `None` where there is none.
    pub ours: Option<String>,
    /// etcd's value.
    pub theirs: Option<String>,
}

impl Difference {
    /// A difference in `what`.
    pub fn new(what: &str, ours: Option<&str>, theirs: Option<&str>) -> Difference {
        Difference {
            what: what.to_string(),
            ours: ours.map(str::to_string),
            theirs: theirs.map(str::to_string),
        }
    }
}

/// Everything that differs between the replies.
pub fn compare(request: &Request, ours: &Reply, theirs: &Reply) -> Vec<Difference> {
    let mut differences = Vec::new();
    if ours.status != theirs.status {
        let [our, their] = [ours, theirs].map(|reply| reply.status.to_string());
        differences.push(Difference::new("status", Some(&our), Some(&their)));
    }
    differences.extend(headers(request, ours, theirs));
    differences.extend(bodies(request, &ours.body, &theirs.body));
    differences
}

fn headers(request: &Request, ours: &Reply, theirs: &Reply) -> Vec<Difference> {
    let names = ours.headers.iter().chain(&theirs.headers);
    let mut names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut differences = Vec::new();
    for name in names {
        let (our, their) = (values(ours, name), values(theirs, name));
        let same = match name {
            _ if our.is_none() || their.is_none() => false,
            _ if MASKED.contains(&name) => true,
            "content-length" => same_length(request, ours, theirs),
            _ => our == their,
        };
        if !same {
            let what = format!("header {name}");
            differences.push(Difference::new(&what, our.as_deref(), their.as_deref()));
        }
    }
    differences
}

/// All values of the header, if it is there.
fn values(reply: &Reply, name: &str) -> Option<String> {
    let values = reply.headers.iter().filter(|(other, _)| other == name);
    let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// With a body, the client has already checked each reply against its own length.
fn same_length(request: &Request, ours: &Reply, theirs: &Reply) -> bool {
    let length = |reply: &Reply| reply.number("content-length").map_or(-1, |n| n as i64);
    request.method != "HEAD" || (length(ours) - length(theirs)).abs() <= HEAD_SLACK
}

/// The difference between the bodies: any number of JSON values in lines, or text.
pub fn bodies(request: &Request, ours: &[u8], theirs: &[u8]) -> Option<Difference> {
    if ours == theirs {
        return None;
    }
    let (our, their) = (
        String::from_utf8_lossy(ours),
        String::from_utf8_lossy(theirs),
    );
    let what = match (values_of(&our), values_of(&their)) {
        (Some(our), Some(their)) => json_difference(request, our, their)?,
        _ => "body".to_string(),
    };
    Some(Difference::new(&what, Some(&our), Some(&their)))
}

/// The JSON values of a body and the text between and after them.
fn values_of(mut text: &str) -> Option<Vec<(Json, bool)>> {
    let mut values = Vec::new();
    while !text.is_empty() {
        let (value, rest) = Json::parse(text)?;
        text = rest.strip_prefix('\n').unwrap_or(rest);
        values.push((value, text.len() < rest.len()));
    }
    Some(values)
}

fn json_difference(
    request: &Request,
    mut ours: Vec<(Json, bool)>,
    mut theirs: Vec<(Json, bool)>,
) -> Option<String> {
    let shape = shape_only(request);
    let sorted = is_sorted_listing(request);
    let all = |values: &mut Vec<(Json, bool)>, change: fn(&mut Json)| {
        values.iter_mut().for_each(|(value, _)| change(value));
    };
    if !sorted {
        all(&mut ours, Json::sort_nodes);
        all(&mut theirs, Json::sort_nodes);
    }
    let place = place(&ours, &theirs, shape)?;
    for values in [&mut ours, &mut theirs] {
        all(values, Json::sort_nodes);
        all(values, Json::sort_fields);
    }
    if self::place(&ours, &theirs, shape).is_none() {
        return Some(format!("order{place}"));
    }
    Some(format!("body{place}"))
}

/// The place of the first difference, and the values there.
fn place(ours: &[(Json, bool)], theirs: &[(Json, bool)], shape: bool) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!(": {} values, not {}", ours.len(), theirs.len()));
    }
    let mut pairs = ours.iter().zip(theirs);
    pairs.find_map(|(our, their)| {
        let newline = (our.1 != their.1).then(|| ": the newline at the end".to_string());
        differs(&our.0, &their.0, "", shape).or(newline)
    })
}

/// Whether the order of children in the answer is specified.
fn is_sorted_listing(request: &Request) -> bool {
    let target = request.target_text();
    let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
    let truths = ["1", "t", "T", "true", "TRUE", "True"];
    // If a parameter occurs twice, the first counts, and the body before the query.
    let parameters = body
        .split('&')
        .chain(target.split(['?', '&']))
        .map(str::to_string);
    let mut sorted = parameters.filter_map(|part| {
        part.strip_prefix("sorted=")
            .map(|value| truths.contains(&value))
    });
    sorted.next().unwrap_or(false)
}

/// Statistics depend on the run: only their fields are compared.
fn shape_only(request: &Request) -> bool {
    let target = request.target_text();
    target.starts_with("/v2/stats/") || target.starts_with("/version")
}

/// The place where the values differ, except for masked fields; `name` is the field that contains
/// them.
fn differs(ours: &Json, theirs: &Json, name: &str, shape: bool) -> Option<String> {
    match (ours, theirs) {
        (Json::Array(our), Json::Array(their)) if our.len() == their.len() => our
            .iter()
            .zip(their)
            .enumerate()
            .find_map(|(number, (our, their))| {
                Some(format!("[{number}]{}", differs(our, their, name, shape)?))
            }),
        (Json::Object(our), Json::Object(their)) if our.len() == their.len() => {
            let mut pairs = our.iter().zip(their);
            pairs.find_map(|((our_name, our), (their_name, their))| {
                if our_name != their_name {
                    return Some(format!(": {our_name}, not {their_name}"));
                }
                let inner = differs(our, their, our_name, shape)?;
                Some(format!(".{}{inner}", our_name.trim_matches('"')))
            })
        }
        (Json::Scalar(our), Json::Scalar(their)) if scalars_alike(our, their, name, shape) => None,
        _ => Some(format!(": {}, not {}", ours.shown(), theirs.shown())),
    }
}

fn scalars_alike(ours: &str, theirs: &str, name: &str, shape: bool) -> bool {
    if ours == theirs {
        return true;
    }
    let number = |text: &str| text.parse::<i64>().ok();
    match name {
        r#""ttl""# => match (number(ours), number(theirs)) {
            (Some(ours), Some(theirs)) => (ours - theirs).abs() <= 1,
            _ => false,
        },
        r#""expiration""# => match (seconds(ours), seconds(theirs)) {
            (Some(ours), Some(theirs)) => (ours - theirs).abs() <= EXPIRY_SLACK,
            _ => false,
        },
        _ if is_id(ours) && is_id(theirs) => true,
        _ => shape && kind(ours) == kind(theirs),
    }
}

/// Whether a text is a member's id, the only long hexadecimal words; Go omits leading zeros.
fn is_id(text: &str) -> bool {
    let inner = text.trim_matches('"');
    let hex = inner.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.starts_with('"') && (12..=16).contains(&inner.len()) && hex
}

fn kind(text: &str) -> char {
    match text.chars().next() {
        Some('"') => '"',
        Some(digit) if digit.is_ascii_digit() || digit == '-' => '0',
        _ => 'w',
    }
}

/// Seconds since 1970 of `"2026-11-23T02:32:35.870749031Z"`, as Go writes it: no zeros at the end
/// of the fraction.
pub fn seconds(text: &str) -> Option<i64> {
    let text = text.trim_matches('"').strip_suffix('Z')?;
    let (text, fraction) = text.split_once('.').unwrap_or((text, "1"));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || fraction.is_empty() || 9 < fraction.len() || fraction.ends_with('0') {
        return None;
    }
    let (date, time) = text.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<Vec<i64>> {
        text.split(separator)
            .map(|part| part.parse().ok())
            .collect()
    };
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let (&[year, month, day], &[hour, minute, second]) = (&date[..], &time[..]) else {
        return None;
    };
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970-01-01; years begin in March, so that the odd day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(index: &str, body: &str) -> Reply {
        Reply {
            status: 200,
            headers: vec![
                (
                    "date".to_string(),
                    format!("Mon, 23 Nov 2026 02:30:{index} GMT"),
                ),
                ("x-etcd-index".to_string(), "7".to_string()),
            ],
            body: body.as_bytes().to_vec(),
        }
    }

    fn differs(target: &str, ours: &str, theirs: &str) -> Option<String> {
        let request = Request::get(target);
        let found = compare(&request, &reply("10", ours), &reply("11", theirs));
        assert!(found.len() < 2, "{found:?}");
        let what = found.into_iter().next()?.what;
        what.split(['.', ':', '[']).next().map(str::to_string)
    }

    #[test]
    fn times_may_be_near_and_nothing_else() {
        let node = |value: &str, expiry: &str, ttl: u32| {
            format!(
                "{{\"node\":{{\"value\":\"{value}\",\"expiration\":\"{expiry}\",\"ttl\":{ttl}}}}}\n"
            )
        };
        let theirs = node("<", "2026-11-23T23:59:59.9Z", 100);
        let near = node("<", "2026-11-24T00:00:00.123456789Z", 101);
        assert_eq!(differs("/", &near, &theirs), None);
        for other in [
            node("\\u003c", "2026-11-23T23:59:59.9Z", 100),
            node("<", "2026-11-24T00:00:02Z", 100),
            node("<", "2026-11-23T23:59:59.90Z", 100),
            node("<", "2026-11-23T23:59:59.9Z", 102),
            near.trim_end().to_string(),
        ] {
            let found = differs("/", &other, &theirs);
            assert_eq!(found.as_deref(), Some("body"), "{other}");
        }
    }

    #[test]
    fn unsorted_children_are_a_set() {
        let one = r#"{"nodes":[{"key":"/a"},{"key":"/b"}]}"#;
        let other = r#"{"nodes":[{"key":"/b"},{"key":"/a"}]}"#;
        assert_eq!(differs("/?sorted=false", one, other), None);
        let found = differs("/?sorted=true", one, other);
        assert_eq!(found.as_deref(), Some("order"));
    }

    #[test]
    fn the_order_of_fields_is_told() {
        let found = differs("/", r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#);
        assert_eq!(found.as_deref(), Some("order"));
    }

    #[test]
    fn a_header_that_only_one_has_differs() {
        let mut ours = reply("10", "");
        ours.headers.pop();
        let found = compare(&Request::get("/"), &ours, &reply("10", ""));
        assert_eq!(
            found,
            [Difference::new("header x-etcd-index", None, Some("7"))]
        );
    }

    #[test]
    fn dates_become_seconds() {
        assert_eq!(seconds("\"1970-01-01T00:00:00Z\""), Some(0));
        assert_eq!(seconds("\"2024-02-29T12:00:00Z\""), Some(1_709_208_000));
        assert_eq!(seconds("\"2076-02-11T14:31:34.2Z\""), Some(3_348_657_094));
    }
}
