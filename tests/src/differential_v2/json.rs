//! JSON that keeps what `serde_json` drops: the order of fields and the text of every scalar.
//!
//! Early clients parse etcd's answers in unusual ways, so `\u003c` and `<` count as different.

use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Json {
    /// A string (with its quotes), a number, `true`, `false` or `null`, as it was written.
    Scalar(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; names with their quotes, in the order of the text.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses one value and returns the rest; `None` if the text is not JSON or contains spaces,
    /// which neither Go's encoder nor ours writes.
    pub fn parse(text: &str) -> Option<(Json, &str)> {
        match text.as_bytes().first()? {
            b'{' => Self::object(&text[1..]),
            b'[' => Self::array(&text[1..]),
            b'"' => string(text).map(|(text, rest)| (Json::Scalar(text.to_string()), rest)),
            _ => {
                let end = text.find([',', '}', ']', '\n']).unwrap_or(text.len());
                let word = &text[..end];
                let number = word.parse::<f64>().is_ok();
                let known = number || matches!(word, "true" | "false" | "null");
                known.then(|| (Json::Scalar(word.to_string()), &text[end..]))
            }
        }
    }

    fn array(mut text: &str) -> Option<(Json, &str)> {
        let mut items = Vec::new();
        if let Some(rest) = text.strip_prefix(']') {
            return Some((Json::Array(items), rest));
        }
        loop {
            let (item, rest) = Json::parse(text)?;
            items.push(item);
            if let Some(rest) = rest.strip_prefix(']') {
                return Some((Json::Array(items), rest));
            }
            text = rest.strip_prefix(',')?;
        }
    }

    fn object(mut text: &str) -> Option<(Json, &str)> {
        let mut fields = Vec::new();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((Json::Object(fields), rest));
        }
        loop {
            let (name, rest) = string(text)?;
            let (value, rest) = Json::parse(rest.strip_prefix(':')?)?;
            fields.push((name.to_string(), value));
            if let Some(rest) = rest.strip_prefix('}') {
                return Some((Json::Object(fields), rest));
            }
            text = rest.strip_prefix(',')?;
        }
    }

    /// The field of an object, its name without quotes.
    pub fn field(&self, name: &str) -> Option<&Json> {
        let Json::Object(fields) = self else {
            return None;
        };
        let quoted = |other: &str| other.trim_matches('"') == name;
        fields
            .iter()
            .find(|(other, _)| quoted(other))
            .map(|(_, value)| value)
    }

    /// A scalar's text, without the quotes of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Scalar(text) => Some(text.trim_matches('"')),
            _ => None,
        }
    }

    /// Removes TTLs below zero.
    pub fn drop_negative_ttls(&mut self) {
        match self {
            Json::Scalar(_) => {}
            Json::Array(items) => items.iter_mut().for_each(Json::drop_negative_ttls),
            Json::Object(fields) => {
                fields.retain(|(name, value)| {
                    let below = value.text().is_some_and(|text| text.starts_with('-'));
                    name != r#""ttl""# || !below
                });
                for (_, value) in fields {
                    value.drop_negative_ttls();
                }
            }
        }
    }

    /// The value in a few words.
    pub fn shown(&self) -> String {
        match self {
            Json::Scalar(text) => text.clone(),
            Json::Array(items) => format!("{} items", items.len()),
            Json::Object(fields) => {
                let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                format!("{{{}}}", names.join(","))
            }
        }
    }

    /// Sorts every array whose order is random in etcd: children of a directory.
    pub fn sort_nodes(&mut self) {
        match self {
            Json::Scalar(_) => {}
            Json::Array(items) => items.iter_mut().for_each(Json::sort_nodes),
            Json::Object(fields) => {
                for (name, value) in fields {
                    value.sort_nodes();
                    if let (r#""nodes""#, Json::Array(items)) = (name.as_str(), value) {
                        // Keys that are not UTF-8 look alike.
                        items.sort_by_cached_key(|item| {
                            ["key", "createdIndex"].map(|name| item.field(name).cloned())
                        });
                    }
                }
            }
        }
    }

    /// Sorts the fields of every object.
    pub fn sort_fields(&mut self) {
        match self {
            Json::Scalar(_) => {}
            Json::Array(items) => items.iter_mut().for_each(Json::sort_fields),
            Json::Object(fields) => {
                for (_, value) in fields.iter_mut() {
                    value.sort_fields();
                }
                fields.sort();
            }
        }
    }
}

/// Prints the value as it was written.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |number: usize| if number == 0 { "" } else { "," };
        match self {
            Json::Scalar(text) => f.write_str(text),
            Json::Array(items) => {
                f.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", comma(number))?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (number, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}:{value}", comma(number))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Cuts a string off the text, quotes included.
fn string(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(text.split_at(at + 2)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_and_what_follows_is_left() {
        let text = "{\"a\":[1,\"\\u003c\\\"\",null],\"b\":{}}\n";
        let (json, rest) = Json::parse(text).unwrap();
        assert_eq!(rest, "\n");
        assert_eq!(format!("{json}\n"), text);
        let Json::Array(items) = json.field("a").unwrap() else {
            panic!("{json:?}");
        };
        assert_eq!(items[1], Json::Scalar("\"\\u003c\\\"\"".to_string()));
        assert_eq!(json.field("b"), Some(&Json::Object(Vec::new())));
    }

    #[test]
    fn what_is_no_json_is_nothing() {
        for text in ["", "{", "[1,]", "{\"a\" :1}", "nope", "\"open"] {
            assert_eq!(Json::parse(text), None, "{text}");
        }
    }
}
