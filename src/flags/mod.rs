//! etcd's flags as data: one entry has the name, type, default, effect and text of a flag, so that
//! the command line, the environment and `--help` always agree.
//!
//! This parser replaces clap because Go's syntax (one dash or two, a bare bool that never takes the
//! next word) and Go's messages are part of etcd's interface for users and scripts. `playground`,
//! which is Keelson's own, uses clap.

pub(crate) mod config_file;
pub(crate) mod environment;
pub(crate) mod help;
mod kind;
pub(crate) mod reasons;
#[cfg(test)]
mod reference;
pub(crate) mod syntax;
mod table;
mod table_more;
mod table_security;
mod values;

pub(crate) use kind::{Kind, duration, parse_cluster, parse_duration};
pub(crate) use values::{Source, Values};

/// The effect of a flag in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The same as etcd's.
    Works,
    /// None, for this reason, as `--help` and the log state. Only for flags that do not affect
    /// safety.
    Inert(&'static str),
    /// Any value but the default stops the start with this remedy, so that a setting is never
    /// ignored silently.
    Unsupported(&'static str),
    /// An old name that etcd itself accepts and ignores.
    Ignored,
}

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As text, in the form a user would type.
    pub(crate) default: &'static str,
    pub(crate) effect: Effect,
    pub(crate) doc: &'static str,
}

impl Flag {
    /// `ETCD_INITIAL_CLUSTER` for `initial-cluster`.
    pub(crate) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// A hint for writing a value, after `text` could not be parsed.
    pub(crate) fn wanted(&self, text: &str) -> Option<String> {
        let bytes = self.name.ends_with("bytes");
        let unit = match self.kind {
            Kind::Count | Kind::Count32 | Kind::Signed if bytes => "bytes, a whole number",
            Kind::Count if self.doc.contains("milliseconds") => "milliseconds, a whole number",
            Kind::Count if self.doc.contains("in seconds") => "seconds, a whole number",
            Kind::Count | Kind::Count32 | Kind::Signed => "a whole number",
            Kind::Duration => {
                let example = if self.default == "0" {
                    "5s"
                } else {
                    self.default
                };
                let more = "300ms or 1h30m";
                return Some(format!(
                    "write a number with its unit, e.g. {example}, {more}"
                ));
            }
            Kind::Urls | Kind::MaybeUrls if !text.contains("://") && text.contains(':') => {
                let urls = text.split(',').map(|one| format!("http://{}", one.trim()));
                return Some(format!("write {}", urls.collect::<Vec<_>>().join(",")));
            }
            _ => return None,
        };
        let example = match self.name {
            "quota-backend-bytes" => "2147483648",
            _ => self.default,
        };
        Some(format!("write {unit}, e.g. {example}"))
    }
}

/// The flags under one heading of `--help`.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) flags: &'static [Flag],
}

/// Every flag, grouped and ordered as in etcd's help.
pub(crate) const GROUPS: &[Group] = &[
    table::MEMBER,
    table::CLUSTERING,
    table_security::SECURITY,
    table_security::AUTH,
    table_more::MONITORING,
    table::LOGGING,
    table_more::PROXY,
    table_more::FEATURES,
    table_more::EXPERIMENTAL,
    table::UNSAFE,
    table_more::OBSOLETE,
];

/// The flag of that name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// Every flag.
pub(crate) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

/// Declares a [`Group`] with two lines for each flag, which rustfmt leaves alone.
macro_rules! group {
    ($const:ident, $title:literal, $($name:literal, $kind:expr, $default:expr, $effect:expr =>
        $doc:literal;)*) => {
        pub(super) const $const: Group = Group {
            title: $title,
            flags: &[$(Flag {
                name: $name, kind: $kind, default: $default, effect: $effect, doc: $doc,
            }),*],
        };
    };
}
use group;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_values() {
        let mut seen = std::collections::BTreeSet::new();
        for flag in all() {
            assert!(seen.insert(flag.name), "{} stands twice", flag.name);
            let empty_is_fine = flag.default.is_empty();
            assert!(
                empty_is_fine || flag.kind.check(flag.default).is_ok(),
                "{}",
                flag.name
            );
            assert!(flag.doc.ends_with('.'), "{}", flag.name);
        }
    }

    #[test]
    fn variables_are_spelled_as_etcds() {
        let flag = find("initial-cluster").expect("it is etcd's");
        assert_eq!(flag.variable(), "ETCD_INITIAL_CLUSTER");
    }
}
