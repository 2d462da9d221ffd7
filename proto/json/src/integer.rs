//! Integers as numbers or strings.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A type of protobuf's integers.
pub trait Integer: Sized {
    /// Its name in Go.
    const GO_NAME: &str;

    /// The integer of that value, if it has one.
    fn of(value: i128) -> Option<Self>;
}

macro_rules! integer {
    ($type:ty, $name:literal) => {
        impl Integer for $type {
            const GO_NAME: &str = $name;

            fn of(value: i128) -> Option<$type> {
                value.try_into().ok()
            }
        }
    };
}

integer!(i32, "int32");
integer!(i64, "int64");
integer!(u32, "uint32");
integer!(u64, "uint64");

/// An integer that is parsed from a number or a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberDeserialize<T>(
    /// The integer.
    pub T,
);

impl<'de, T: Integer> Deserialize<'de> for NumberDeserialize<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let integer = deserializer.deserialize_any(IntegerVisitor(PhantomData))?;
        Ok(NumberDeserialize(integer))
    }
}

struct IntegerVisitor<T>(PhantomData<T>);

impl<T: Integer> Visitor<'_> for IntegerVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an integer, as a number or a string")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::of(value.into()).ok_or_else(|| no_integer::<T, E>(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::of(value.into()).ok_or_else(|| no_integer::<T, E>(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        whole(value)
            .and_then(T::of)
            .ok_or_else(|| no_integer::<T, E>(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let value = match text.starts_with('+') {
            true => None,
            false => text.parse().ok(),
        };
        let exponential = || text.parse().ok().and_then(whole);
        let value = value.or_else(exponential);
        value
            .and_then(T::of)
            .ok_or_else(|| match text.chars().next() {
                None => E::custom("unexpected end of JSON input"),
                Some(first) if first == '-' || first.is_ascii_digit() => no_integer::<T, E>(text),
                Some(first) => E::custom(format!(
                    "invalid character {first:?} looking for beginning of value"
                )),
            })
    }
}

/// The integer of a number with a point or an exponent, as far as such numbers are exact.
fn whole(value: f64) -> Option<i128> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is an integer within 53 bits"
    )]
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i128)
}

fn no_integer<T: Integer, E: Error>(value: impl fmt::Display) -> E {
    E::custom(format!(
        "json: cannot unmarshal number {value} into Go value of type {}",
        T::GO_NAME
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: Integer>(json: &str) -> Result<T, String> {
        let parsed = serde_json::from_str::<NumberDeserialize<T>>(json);
        parsed.map(|parsed| parsed.0).map_err(|error| {
            let text = error.to_string();
            text.split(" at line ").next().unwrap().to_owned()
        })
    }

    #[test]
    fn numbers_and_strings_are_integers() {
        for json in ["100", r#""100""#, "1e2", r#""1e2""#, "100.0"] {
            assert_eq!(parse::<i64>(json), Ok(100), "{json}");
        }
        assert_eq!(parse::<u64>(r#""18446744073709551615""#), Ok(u64::MAX));
        assert_eq!(parse::<i64>("-9223372036854775808"), Ok(i64::MIN));
    }

    /// The texts were recorded from etcd 3.4.23.
    #[test]
    fn errors_have_gos_texts() {
        let no_int64 =
            |value| format!("json: cannot unmarshal number {value} into Go value of type int64");
        for (json, expected) in [
            ("1.5", no_int64("1.5")),
            (
                r#""99999999999999999999""#,
                no_int64("99999999999999999999"),
            ),
            ("18446744073709551615", no_int64("18446744073709551615")),
            (r#""1x""#, no_int64("1x")),
            (
                r#""x""#,
                "invalid character 'x' looking for beginning of value".to_owned(),
            ),
            (r#""""#, "unexpected end of JSON input".to_owned()),
        ] {
            assert_eq!(parse::<i64>(json), Err(expected), "{json}");
        }
        let no_uint64 = "json: cannot unmarshal number -1 into Go value of type uint64";
        assert_eq!(parse::<u64>("-1"), Err(no_uint64.to_owned()));
    }
}
