//! The command line, parsed as Go's `flag` package parses it.

use super::help::commands;
use super::{Kind, Source, Values, find};

/// The request of a command line.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// `-h`, `--help`.
    Help,
    /// `--help all`.
    HelpAll,
    /// `--version`.
    Version,
    /// Start a member with these values.
    Member(Values),
}

/// A command line that cannot be parsed. The texts are Go's and etcd's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    /// `flag provided but not defined: -nosuch`; the remedy suggests a similar name.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// `--`, `-=x` and the like.
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    /// The last word is a flag that needs a value.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(&'static str),
    /// The value is not of the flag's type.
    #[error("invalid value \"{value}\" for flag -{name}: {why}")]
    BadValue {
        /// The value as typed.
        value: String,
        /// The flag.
        name: &'static str,
        /// Go's text for the reason.
        why: String,
    },
    /// The value is not a bool.
    #[error("invalid boolean value \"{0}\" for -{1}: parse error")]
    BadBool(String, &'static str),
    /// A word that is not a flag. etcd exits with 1 here, and with 2 for all other faults.
    #[error("'{0}' is not a valid flag")]
    NotAFlag(String),
}

impl SyntaxError {
    /// etcd's exit status for the error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            SyntaxError::NotAFlag(_) => 1,
            _ => 2,
        }
    }

    /// A remedy beyond reading the help.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            SyntaxError::Unknown(name) => {
                let near = suggested(name)?;
                Some(format!("did you mean {near}?"))
            }
            SyntaxError::BadValue { value, name, .. } => find(name)?.wanted(value),
            SyntaxError::NotAFlag(word) if Kind::Bool.check(word).is_ok() => Some(format!(
                "write the value of a bool after =, as in --pre-vote={word}"
            )),
            SyntaxError::NotAFlag(word) => Some(match nearest(word, commands()) {
                Some(near) => format!("did you mean the command {near}?"),
                None => {
                    let all: Vec<_> = commands().collect();
                    format!("the commands are {}", all.join(", "))
                }
            }),
            _ => None,
        }
    }
}

/// Parses the words after the program's name.
pub(crate) fn parse(words: &[String]) -> Result<Parsed, SyntaxError> {
    let mut values = Values::default();
    let mut version = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(body) = flag_body(word)? else {
            let stray = if word == "--" {
                words.next()
            } else {
                Some(word)
            };
            match stray {
                Some(stray) => return Err(SyntaxError::NotAFlag(stray.clone())),
                None => break,
            }
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        match (find(name), name) {
            (Some(flag), _) => set(&mut values, flag, value, &mut words)?,
            (None, "h" | "help") => {
                let what = value.or_else(|| words.next().map(String::as_str));
                return Ok(match what {
                    Some("all") => Parsed::HelpAll,
                    _ => Parsed::Help,
                });
            }
            (None, "version") => version = boolean("version", value)?,
            (None, _) => return Err(SyntaxError::Unknown(name.to_owned())),
        }
    }
    Ok(if version {
        Parsed::Version
    } else {
        Parsed::Member(values)
    })
}

/// The word without its dashes; `None` when it is not a flag.
fn flag_body(word: &str) -> Result<Option<&str>, SyntaxError> {
    let body = match word.strip_prefix("--").or_else(|| word.strip_prefix('-')) {
        None => return Ok(None),
        Some("") => return Ok(None), // `-` and `--` end the flags
        Some(body) => body,
    };
    if body.starts_with(['-', '=']) {
        return Err(SyntaxError::BadSyntax(word.to_owned()));
    }
    Ok(Some(body))
}

fn set<'a>(
    values: &mut Values,
    flag: &'static super::Flag,
    value: Option<&str>,
    words: &mut impl Iterator<Item = &'a String>,
) -> Result<(), SyntaxError> {
    let text = match (flag.kind, value) {
        (Kind::Bool, value) => boolean(flag.name, value)?.to_string(),
        (_, Some(value)) => value.to_owned(),
        (_, None) => words
            .next()
            .ok_or(SyntaxError::NeedsArgument(flag.name))?
            .clone(),
    };
    let shown = if flag.kind == Kind::Secret {
        "***".to_owned()
    } else {
        text.clone()
    };
    values
        .set(flag, text, Source::CommandLine)
        .map_err(|why| SyntaxError::BadValue {
            value: shown,
            name: flag.name,
            why,
        })
}

fn boolean(name: &'static str, value: Option<&str>) -> Result<bool, SyntaxError> {
    match value {
        None => Ok(true),
        Some(text) => {
            super::kind::parse_bool(text).ok_or_else(|| SyntaxError::BadBool(text.to_owned(), name))
        }
    }
}

/// Bound on the number of suggestions.
const SUGGESTED_MAX: usize = 3;

/// The flag within a small edit distance, or the flags that begin with the typed text.
fn suggested(name: &str) -> Option<String> {
    if let Some(near) = nearest(name, super::all().map(|flag| flag.name)) {
        return Some(format!("--{near}"));
    }
    let begins = |flag: &&super::Flag| {
        let rest = flag.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('-'))
    };
    let longer = super::all().filter(begins);
    let longer: Vec<_> = longer.map(|flag| format!("--{}", flag.name)).collect();
    ((1..=SUGGESTED_MAX).contains(&longer.len())).then(|| longer.join(" or "))
}

/// The name within a small edit distance of the typed text.
fn nearest(name: &str, all: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, near) = all.map(|one| (edits(name, one), one)).min()?;
    (distance <= name.len() / 4).then_some(near)
}

/// Levenshtein's distance, row by row.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn values(line: &str) -> Values {
        match parse(&words(line)) {
            Ok(Parsed::Member(values)) => values,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn one_dash_or_two_and_both_ways_to_give_a_value() {
        for line in ["--name a", "-name a", "--name=a", "-name=a"] {
            assert_eq!(values(line).text("name"), "a", "{line}");
        }
        assert_eq!(
            values("--initial-cluster a=http://b:1").text("initial-cluster"),
            "a=http://b:1"
        );
        assert_eq!(values("--data-dir=").text("data-dir"), "");
        assert_eq!(
            values("--quota-backend-bytes -1").signed("quota-backend-bytes"),
            -1
        );
    }

    #[test]
    fn a_bool_never_eats_the_next_word() {
        assert!(values("--force-new-cluster --name a").boolean("force-new-cluster"));
        assert!(!values("--pre-vote=F").boolean("pre-vote"));
        let error = parse(&words("--pre-vote false")).expect_err("an unexpected word");
        assert_eq!(error, SyntaxError::NotAFlag("false".into()));
        assert_eq!(error.exit_code(), 1);
        assert!(
            error
                .remedy()
                .expect("it has a remedy")
                .contains("--pre-vote=false")
        );
    }

    // Texts and exit codes are those of etcd 3.4.23.
    #[test]
    fn what_cannot_be_read_is_said_in_gos_words() {
        for (line, text) in [
            ("--nosuch", "flag provided but not defined: -nosuch"),
            ("-nosuch=3", "flag provided but not defined: -nosuch"),
            ("--name", "flag needs an argument: -name"),
            ("--=x", "bad flag syntax: --=x"),
            ("---name", "bad flag syntax: ---name"),
            (
                "--heartbeat-interval=abc",
                "invalid value \"abc\" for flag -heartbeat-interval: parse error",
            ),
            (
                "--max-txn-ops=-1",
                "invalid value \"-1\" for flag -max-txn-ops: parse error",
            ),
            (
                "--quota-backend-bytes=99999999999999999999",
                "invalid value \"99999999999999999999\" for flag -quota-backend-bytes: \
                 value out of range",
            ),
            (
                "--pre-vote=maybe",
                "invalid boolean value \"maybe\" for -pre-vote: parse error",
            ),
            (
                "--listen-client-urls foo",
                "invalid value \"foo\" for flag -listen-client-urls: \
                 URL scheme must be http, https, unix, or unixs: foo",
            ),
        ] {
            let error = parse(&words(line)).expect_err(line);
            assert_eq!(error.to_string(), text);
            assert_eq!(error.exit_code(), 2);
        }
        for line in ["extra", "--name a -- extra", "--name a - extra"] {
            assert_eq!(parse(&words(line)).expect_err(line).exit_code(), 1);
        }
    }

    #[test]
    fn help_and_version() {
        for line in ["--help all", "-h all", "--help=all"] {
            let parsed = parse(&words(line));
            assert!(matches!(parsed, Ok(Parsed::HelpAll)), "{line}");
        }
        for line in ["-h", "--help", "-help", "--name a --help --nosuch"] {
            assert!(matches!(parse(&words(line)), Ok(Parsed::Help)), "{line}");
        }
        for line in ["-version", "--version", "--version=true --name a"] {
            assert!(matches!(parse(&words(line)), Ok(Parsed::Version)), "{line}");
        }
        assert!(matches!(
            parse(&words("--version=false")),
            Ok(Parsed::Member(_))
        ));
        assert!(parse(&words("--version --nosuch")).is_err());
    }

    #[test]
    fn a_slip_of_the_finger_gets_a_hint() {
        let remedy = |name: &str| SyntaxError::Unknown(name.to_owned()).remedy();
        let hint = Some("did you mean --listen-client-urls?".to_owned());
        assert_eq!(remedy("listen-client-url"), hint);
        assert_eq!(remedy("nosuch"), None);
        let hint = Some("did you mean --heartbeat-interval?".to_owned());
        assert_eq!(remedy("heartbeat"), hint);
    }

    #[test]
    fn a_value_that_cannot_be_read_names_what_is_wanted() {
        for (line, wanted) in [
            (
                "--heartbeat-interval 1s",
                "write milliseconds, a whole number, e.g. 100",
            ),
            (
                "--quota-backend-bytes 2GB",
                "write bytes, a whole number, e.g. 2147483648",
            ),
            (
                "--max-request-bytes 1M",
                "write bytes, a whole number, e.g. 1572864",
            ),
            ("--snapshot-count x", "write a whole number, e.g. 10000"),
            (
                "--v2-ttl-grace 20",
                "write a number with its unit, e.g. 20s, 300ms or 1h30m",
            ),
            (
                "--listen-client-urls 127.0.0.1:34300",
                "write http://127.0.0.1:34300",
            ),
            (
                "--initial-advertise-peer-urls localhost:2380",
                "write http://localhost:2380",
            ),
        ] {
            let error = parse(&words(line)).expect_err(line);
            assert_eq!(error.remedy().as_deref(), Some(wanted), "{line}");
        }
        let error = parse(&words("--listen-client-urls ftp://a:1")).expect_err("a scheme");
        assert_eq!(error.remedy(), None);
    }

    #[test]
    fn a_word_that_is_no_command_gets_a_hint() {
        let remedy = |word: &str| SyntaxError::NotAFlag(word.to_owned()).remedy();
        let hint = Some("did you mean the command playground?".to_owned());
        assert_eq!(remedy("playgroud"), hint);
        let all = remedy("start").expect("the list");
        assert!(
            all.starts_with("the commands are playground, discovery"),
            "{all}"
        );
    }
}
