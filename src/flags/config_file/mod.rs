//! `--config-file`: etcd's configuration file. Its keys are the names of flags, and etcd's sections
//! of TLS and discovery. Flags and variables beside it are ignored, as in etcd.

mod sections;
#[cfg(test)]
mod tests;
mod yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use self::sections::{flag_of, is_restriction, is_section};
use self::yaml::{Entry, Node, Value, YamlError};
use super::{Flag, Kind, Source, Values};

/// Bound on the bytes of a configuration file.
const FILE_MAX: u64 = 1 << 20;

/// A configuration file that stops the start, with exit status 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    /// It cannot be read. The text is Go's.
    #[error("open {0}: {1}")]
    Unreadable(String, String),
    /// It is too large.
    #[error("{0} has more than {FILE_MAX} bytes: it is not a configuration file")]
    TooLarge(String),
    /// It is not YAML. The text begins as etcd's.
    #[error("error converting YAML to JSON: yaml: line {line}: {why} (in {file})")]
    Yaml {
        file: String,
        line: usize,
        why: String,
    },
    /// A key has a value that its flag cannot have.
    #[error("{file}: line {line}: {key}: {why}")]
    Key {
        file: String,
        line: usize,
        key: String,
        why: String,
    },
}

/// The values of a file, and its warnings.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) values: Values,
    pub(crate) warnings: Vec<String>,
}

/// Reads the file at `path`.
pub(crate) fn load(path: &str) -> Result<Loaded, ConfigFileError> {
    let unreadable = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        ConfigFileError::Unreadable(path.to_owned(), why)
    };
    let file = File::open(Path::new(path)).map_err(unreadable)?;
    let mut text = String::new();
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text);
    if FILE_MAX < read.map_err(unreadable)? as u64 {
        return Err(ConfigFileError::TooLarge(path.to_owned()));
    }
    parse(path, &text)
}

/// The values in `text`, the content of the file at `path`.
fn parse(path: &str, text: &str) -> Result<Loaded, ConfigFileError> {
    let tree = yaml::parse(text).map_err(|YamlError { line, why }| ConfigFileError::Yaml {
        file: path.to_owned(),
        line,
        why,
    })?;
    let mut reader = FileReader {
        file: path,
        set: Vec::new(),
        loaded: Loaded {
            values: Values::default(),
            warnings: Vec::new(),
        },
    };
    match tree {
        None => {}
        Some(Node {
            value: Value::Null, ..
        }) => {}
        Some(Node {
            value: Value::Map(entries),
            ..
        }) => reader.entries("", entries)?,
        Some(Node { line, .. }) => {
            let why = "the file must be keys with values, as in \"name: m1\"";
            return Err(reader.fault(line, "configuration", why.to_owned()));
        }
    }
    Ok(reader.loaded)
}

/// The state of reading one file.
struct FileReader<'a> {
    file: &'a str,
    /// The flags that have been set, each with the line of its key.
    set: Vec<(&'static str, usize)>,
    loaded: Loaded,
}

impl FileReader<'_> {
    fn fault(&self, line: usize, key: &str, why: String) -> ConfigFileError {
        ConfigFileError::Key {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            why,
        }
    }

    fn warn(&mut self, line: usize, key: &str, why: &str) {
        let text = format!("{}: line {line}: {key}: {why}", self.file);
        self.loaded.warnings.push(text);
    }

    fn entries(&mut self, section: &str, entries: Vec<Entry>) -> Result<(), ConfigFileError> {
        for Entry { key, line, node } in entries {
            let path = match section {
                "" => key,
                section => format!("{section}.{key}"),
            };
            match (flag_of(&path), node.value) {
                (_, Value::Null) => {}
                (Some(flag), value) => self.value(flag, line, &path, value)?,
                (None, Value::Map(entries)) if is_section(&path) => self.entries(&path, entries)?,
                (None, _) if is_section(&path) => {
                    let why = "the value must be keys with values of their own";
                    return Err(self.fault(line, &path, why.to_owned()));
                }
                (None, _) if is_restriction(&path) => {
                    let why = "is not supported: without it more clients would be admitted";
                    return Err(self.fault(line, &path, why.to_owned()));
                }
                // As in etcd, which does not even warn.
                (None, _) => self.warn(line, &path, "unknown key, ignored"),
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        flag: &'static Flag,
        line: usize,
        key: &str,
        value: Value,
    ) -> Result<(), ConfigFileError> {
        let text = text_of(flag, value).map_err(|why| self.fault(line, key, why.to_owned()))?;
        let Some(text) = text else { return Ok(()) };
        if let Some((_, before)) = self.set.iter().find(|(name, _)| *name == flag.name) {
            let why = format!("replaces the value of line {before}");
            self.warn(line, key, &why);
        }
        self.set.push((flag.name, line));
        let set = self
            .loaded
            .values
            .set(flag, text.clone(), Source::ConfigFile);
        set.map_err(|why| {
            let shown = match flag.kind {
                Kind::Secret => "***",
                _ => &text,
            };
            let wanted = flag
                .wanted(&text)
                .map_or_else(String::new, |wanted| format!("; {wanted}"));
            self.fault(
                line,
                key,
                format!("invalid value \"{shown}\": {why}{wanted}"),
            )
        })
    }
}

/// The value as the flag's text; `None` where it leaves the default, as in etcd.
fn text_of(flag: &Flag, value: Value) -> Result<Option<String>, &'static str> {
    let (text, is_plain) = match value {
        Value::Scalar { text, is_plain } => (text, is_plain),
        Value::List(items) if takes_list(flag.kind) => {
            let mut words = Vec::new();
            for item in items {
                match item.value {
                    Value::Scalar { text, .. } => words.push(text),
                    _ => return Err("the items of the list must be words"),
                }
            }
            (words.join(","), false)
        }
        Value::List(_) => return Err("the value must not be a list"),
        Value::Map(_) => return Err("the value must not have keys of its own"),
        Value::Null => return Ok(None),
    };
    // An empty text has a meaning of its own only where any text has.
    if text.is_empty() && !matches!(flag.kind, Kind::Text | Kind::Secret) {
        return Ok(None);
    }
    Ok(Some(match flag.kind {
        Kind::Bool if is_plain => yaml_bool(text),
        // etcd's durations in files are numbers of nanoseconds.
        Kind::Duration if is_count(&text) && text != "0" => format!("{text}ns"),
        Kind::Count | Kind::Count32 | Kind::Signed if is_plain => text.replace('_', ""),
        _ => text,
    }))
}

fn is_count(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the flag's text may be a list with commas.
fn takes_list(kind: Kind) -> bool {
    let kinds = [Kind::Text, Kind::Urls, Kind::MaybeUrls, Kind::Cluster];
    kinds.contains(&kind)
}

/// YAML 1.1 has more words for bools than Go's flags.
fn yaml_bool(text: String) -> String {
    let word = match text.to_ascii_lowercase().as_str() {
        "yes" | "on" => "true",
        "no" | "off" => "false",
        _ => return text,
    };
    word.to_owned()
}
