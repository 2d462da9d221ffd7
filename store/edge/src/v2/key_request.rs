//! The parameters of a keys request, checked in etcd's order, and the change that follows from
//! them.
//!
//! `noValueOnSuccess` is from etcd 3; 2.3 does not have it, and clients of its time do not send
//! it.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use super::error::{Code, KeyError};
use super::form::{Field, Form};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// The parameters that are not texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) prev_index: u64,
    pub(super) wait_index: u64,
    pub(super) recursive: bool,
    pub(super) wait: bool,
    pub(super) dir: bool,
    pub(super) quorum: bool,
    pub(super) stream: bool,
    pub(super) no_value_on_success: bool,
    pub(super) ttl: Option<u64>,
    pub(super) prev_exist: Option<bool>,
    pub(super) refresh: bool,
}

impl Parameters {
    /// Checks all parameters, even those that the method does not use.
    pub(super) fn parse(method: &Method, form: &Form<'_>) -> Result<Parameters, KeyError> {
        let index = |field, cause| {
            let text = form.value(field).map(parse_u64);
            text.unwrap_or(Some(0))
                .ok_or(KeyError::new(Code::IndexNaN, cause))
        };
        let flag = |field, cause| {
            let text = form.value(field).map(parse_bool);
            text.unwrap_or(Some(false))
                .ok_or(KeyError::new(Code::InvalidField, cause))
        };
        let mut parsed = Parameters {
            prev_index: index(Field::PrevIndex, r#"invalid value for "prevIndex""#)?,
            wait_index: index(Field::WaitIndex, r#"invalid value for "waitIndex""#)?,
            recursive: flag(Field::Recursive, r#"invalid value for "recursive""#)?,
            ..Parameters::default()
        };
        // Listings are always sorted.
        flag(Field::Sorted, r#"invalid value for "sorted""#)?;
        parsed.wait = flag(Field::Wait, r#"invalid value for "wait""#)?;
        parsed.dir = flag(Field::Dir, r#"invalid value for "dir""#)?;
        parsed.quorum = flag(Field::Quorum, r#"invalid value for "quorum""#)?;
        parsed.stream = flag(Field::Stream, r#"invalid value for "stream""#)?;
        if parsed.wait && *method != Method::GET {
            let cause = r#""wait" can only be used with GET requests"#;
            return Err(KeyError::new(Code::InvalidField, cause));
        }
        if form.value(Field::PrevValue) == Some(b"") {
            let cause = r#""prevValue" cannot be empty"#;
            return Err(KeyError::new(Code::PrevValueRequired, cause));
        }
        parsed.no_value_on_success = flag(
            Field::NoValueOnSuccess,
            r#"invalid value for "noValueOnSuccess""#,
        )?;
        parsed.ttl = parse_ttl(form)?;
        let prev_exist = flag(Field::PrevExist, "invalid value for prevExist")?;
        parsed.prev_exist = form.value(Field::PrevExist).map(|_| prev_exist);
        parsed.refresh = flag(Field::Refresh, "invalid value for refresh")?;
        if parsed.refresh {
            check_refresh(form, parsed.ttl)?;
        }
        Ok(parsed)
    }

    /// The change of the tree at `path` for a PUT, POST or DELETE at the time `now_ns`.
    pub(super) fn change(
        &self,
        method: &Method,
        path: Bytes,
        form: &mut Form<'_>,
        body: &Bytes,
        now_ns: i64,
    ) -> TreeRequest {
        let prev_value = form.take(Field::PrevValue).unwrap_or_default();
        let value = form.take(Field::Value).unwrap_or_default();
        TreeRequest {
            op: i32::from(self.op(method, !prev_value.is_empty())),
            path,
            value: own(value, body),
            dir: self.dir,
            recursive: self.recursive,
            prev_index: self.prev_index,
            prev_value: own(prev_value, body),
            expires_ns: self.ttl.map_or(0, |ttl| expires_ns(ttl, now_ns)),
            refresh: self.refresh,
            time_ns: now_ns,
        }
    }

    fn op(&self, method: &Method, has_prev_value: bool) -> Op {
        let compares = has_prev_value || self.prev_index != 0;
        match *method {
            Method::POST => Op::CreateInOrder,
            Method::DELETE if compares => Op::CompareAndDelete,
            Method::DELETE => Op::Delete,
            _ => match self.prev_exist {
                Some(false) => Op::Create,
                Some(true) if !compares => Op::Update,
                _ if compares => Op::CompareAndSwap,
                _ => Op::Set,
            },
        }
    }
}

/// The expiration time for a time to live, with Go's wrapping arithmetic: Deis's logger sends
/// 20,000,000,000 seconds, and gets a date in 2076.
fn expires_ns(ttl: u64, now_ns: i64) -> i64 {
    let ttl_ns = ttl.cast_signed().wrapping_mul(NS_PER_SECOND);
    now_ns.wrapping_add(ttl_ns)
}

/// An empty time to live counts as none.
fn parse_ttl(form: &Form<'_>) -> Result<Option<u64>, KeyError> {
    let text = form.value(Field::Ttl).filter(|text| !text.is_empty());
    let Some(text) = text else {
        return Ok(None);
    };
    let refused = || KeyError::new(Code::TtlNaN, r#"invalid value for "ttl""#);
    parse_u64(text).map(Some).ok_or_else(refused)
}

fn check_refresh(form: &Form<'_>, ttl: Option<u64>) -> Result<(), KeyError> {
    if form
        .value(Field::Value)
        .is_some_and(|value| !value.is_empty())
    {
        let cause = "A value was provided on a refresh";
        return Err(KeyError::new(Code::RefreshValue, cause));
    }
    if ttl.is_none() {
        return Err(KeyError::new(Code::RefreshTtlRequired, "No TTL value set"));
    }
    Ok(())
}

/// `strconv.ParseUint`, base 10.
fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// `strconv.ParseBool`.
fn parse_bool(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Some(false),
        _ => None,
    }
}

/// The text without a copy, if it is a part of the body.
fn own(text: Cow<'_, [u8]>, body: &Bytes) -> Bytes {
    match text {
        Cow::Borrowed(b"") => Bytes::new(),
        Cow::Borrowed(part) if body.as_ptr_range().contains(&part.as_ptr()) => body.slice_ref(part),
        Cow::Borrowed(part) => Bytes::copy_from_slice(part),
        Cow::Owned(text) => Bytes::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_795_401_553_000_000_000;

    fn change(method: Method, query: &str) -> TreeRequest {
        let mut form = Form::default();
        form.add(query.as_bytes()).unwrap();
        let parameters = Parameters::parse(&method, &form).unwrap();
        let path = Bytes::from_static(b"/1/x");
        parameters.change(&method, path, &mut form, &Bytes::new(), NOW_NS)
    }

    /// The cases of section 4.3 of the reference.
    #[test]
    fn requests_become_changes_as_in_etcd() {
        for (method, query, op) in [
            (Method::PUT, "", Op::Set),
            (Method::PUT, "prevIndex=0", Op::Set),
            (Method::PUT, "prevExist=true", Op::Update),
            (Method::PUT, "prevExist=t&prevIndex=0", Op::Update),
            (
                Method::PUT,
                "prevExist=true&prevIndex=3",
                Op::CompareAndSwap,
            ),
            (Method::PUT, "prevExist=1&prevValue=a", Op::CompareAndSwap),
            (Method::PUT, "prevExist=false", Op::Create),
            (
                Method::PUT,
                "prevExist=f&prevValue=a&prevIndex=3",
                Op::Create,
            ),
            (Method::PUT, "prevIndex=3", Op::CompareAndSwap),
            (Method::PUT, "prevValue=a", Op::CompareAndSwap),
            (Method::POST, "prevValue=a", Op::CreateInOrder),
            (Method::DELETE, "prevExist=true", Op::Delete),
            (Method::DELETE, "prevIndex=3", Op::CompareAndDelete),
            (
                Method::DELETE,
                "prevValue=a&prevExist=false",
                Op::CompareAndDelete,
            ),
        ] {
            assert_eq!(change(method.clone(), query).op(), op, "{method} {query}");
        }
    }

    #[test]
    fn times_to_live_wrap_as_in_go() {
        for (ttl, expires_ns) in [
            ("ttl=", 0),
            ("ttl=0", NOW_NS),
            ("ttl=20", NOW_NS + 20_000_000_000),
            ("ttl=18446744073709551615", NOW_NS - 1_000_000_000),
            // 20 s in ns, times a second in ns, in 64 bits.
            ("ttl=20000000000", NOW_NS + 1_553_255_926_290_448_384),
            (
                "ttl=9223372036",
                NOW_NS.wrapping_add(9_223_372_036_000_000_000),
            ),
        ] {
            assert_eq!(change(Method::PUT, ttl).expires_ns, expires_ns, "{ttl}");
        }
    }

    #[test]
    fn numbers_are_gos() {
        for (text, number) in [
            ("0", Some(0)),
            ("00012", Some(12)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1_0", None),
            ("0x1", None),
            (" 1", None),
        ] {
            assert_eq!(parse_u64(text.as_bytes()), number, "{text}");
        }
    }
}
