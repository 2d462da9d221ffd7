//! The values that the user gave, checked against the table; all others have the default.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_store::config::Url;

use super::kind::{is_no_retention, parse_bool, parse_count, parse_duration, parse_signed};
use super::{Flag, Kind, find};

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    CommandLine,
    /// An `ETCD_*` variable.
    Environment,
    /// The file of `--config-file`.
    ConfigFile,
}

/// Values by flag name. Reading a name that is not in the table is a bug and panics.
#[derive(Debug, Default)]
pub(crate) struct Values {
    given: BTreeMap<&'static str, (String, Source)>,
}

impl Values {
    /// Sets a value of the flag's kind; the last one has precedence. The error is Go's text.
    pub(crate) fn set(
        &mut self,
        flag: &'static Flag,
        text: String,
        source: Source,
    ) -> Result<(), String> {
        flag.kind.check(&text)?;
        self.given.insert(flag.name, (text, source));
        Ok(())
    }

    /// Whether the user set it, by flag or by variable.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.source(name).is_some()
    }

    /// The source of a value that the user set.
    pub(crate) fn source(&self, name: &str) -> Option<Source> {
        debug_assert!(find(name).is_some(), "--{name} is not in the table");
        self.given.get(name).map(|(_, source)| *source)
    }

    /// The names of all flags that the user set.
    pub(crate) fn given(&self) -> impl Iterator<Item = &'static str> {
        self.given.keys().copied()
    }

    /// Whether the user set it to another value than the default.
    pub(crate) fn is_changed(&self, flag: &Flag) -> bool {
        let Some((text, _)) = self.given.get(flag.name) else {
            return false;
        };
        if text.is_empty() {
            return false;
        }
        match flag.kind {
            Kind::Bool => parse_bool(text) != parse_bool(flag.default),
            Kind::Duration => parse_duration(text) != parse_duration(flag.default),
            Kind::Retention => !is_no_retention(text),
            _ => text != flag.default,
        }
    }

    /// The value as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.given.get(name) {
            Some((text, _)) => text,
            None => {
                find(name)
                    .expect("only names of the table are read")
                    .default
            }
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> bool {
        parse_bool(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        parse_count(self.text(name), u64::MAX).expect(CHECKED)
    }

    pub(crate) fn count32(&self, name: &str) -> u32 {
        u32::try_from(self.count(name)).expect(CHECKED)
    }

    /// A count used as a length; values above `usize::MAX` are cut to it.
    pub(crate) fn size(&self, name: &str) -> usize {
        usize::try_from(self.count(name)).unwrap_or(usize::MAX)
    }

    pub(crate) fn signed(&self, name: &str) -> i64 {
        parse_signed(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn duration(&self, name: &str) -> Duration {
        parse_duration(self.text(name)).expect(CHECKED)
    }

    /// URLs, sorted and without duplicates, as etcd's `UniqueURLs`.
    pub(crate) fn urls(&self, name: &str) -> Vec<Url> {
        let mut urls = Url::parse_list(self.text(name)).expect(CHECKED);
        urls.dedup();
        urls
    }
}

const CHECKED: &str = "Values::set checked it, and the defaults are tested";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_show_through_and_the_last_value_wins() {
        let mut values = Values::default();
        let flag = find("heartbeat-interval").expect("it is in the table");
        assert_eq!(values.count("heartbeat-interval"), 100);
        for text in ["200", "300"] {
            values
                .set(flag, text.into(), Source::CommandLine)
                .expect("a number");
        }
        assert_eq!(values.count("heartbeat-interval"), 300);
        assert!(values.is_changed(flag));
        assert!(values.set(flag, "x".into(), Source::CommandLine).is_err());
    }

    #[test]
    fn the_default_in_other_words_is_no_change() {
        let mut values = Values::default();
        for (name, text) in [
            ("auto-tls", "F"),
            ("raft-read-timeout", "5000ms"),
            ("cors", ""),
        ] {
            let flag = find(name).expect("it is in the table");
            values
                .set(flag, text.into(), Source::CommandLine)
                .expect("it is valid");
            assert!(!values.is_changed(flag), "{name}");
        }
    }
}
