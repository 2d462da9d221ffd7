//! `ETCD_*` variables as values of flags, by etcd 3.4's rules.

use super::{Kind, Source, Values, all};

/// A log line about a variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It became a flag's value.
    Used(String, String),
    /// It belongs to no flag, or is empty.
    Unrecognized(String, String),
}

/// A variable that stops the start, with exit status 1. The texts are etcd's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// The flag is given as well, so the intended value is unclear.
    #[error(
        "conflicting environment variable \"{0}\" is shadowed by corresponding command-line flag \
         (either unset environment variable or disable flag)"
    )]
    Shadowed(String),
    /// The value is not of the flag's type.
    #[error("invalid value \"{0}\" for {1}: {2}{3}")]
    BadValue(String, String, String, String),
}

/// Sets the flags named by the variables.
pub(crate) fn apply(
    values: &mut Values,
    variables: &[(String, String)],
) -> Result<Vec<Notice>, EnvironmentError> {
    let mut notices = Vec::new();
    for (variable, text) in variables {
        let flag = all().find(|flag| flag.variable() == *variable);
        let notice = match flag {
            Some(flag) if values.source(flag.name) == Some(Source::CommandLine) => {
                return Err(EnvironmentError::Shadowed(variable.clone()));
            }
            Some(flag) if !text.is_empty() => {
                let secret = flag.kind == Kind::Secret;
                let shown = if secret {
                    "***".to_owned()
                } else {
                    text.clone()
                };
                values
                    .set(flag, text.clone(), Source::Environment)
                    .map_err(|why| {
                        let wanted = flag.wanted(text);
                        let wanted =
                            wanted.map_or_else(String::new, |wanted| format!("; {wanted}"));
                        EnvironmentError::BadValue(shown.clone(), variable.clone(), why, wanted)
                    })?;
                Notice::Used(variable.clone(), shown)
            }
            _ => Notice::Unrecognized(variable.clone(), text.clone()),
        };
        notices.push(notice);
    }
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::{Parsed, parse};
    use super::*;

    fn given(line: &[&str], variables: &[(&str, &str)]) -> Result<(Values, usize), String> {
        let line: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let Ok(Parsed::Member(mut values)) = parse(&line) else {
            panic!("{line:?}")
        };
        let variables: Vec<_> = variables
            .iter()
            .map(|&(name, text)| (name.to_owned(), text.to_owned()))
            .collect();
        let notices = apply(&mut values, &variables).map_err(|error| error.to_string())?;
        let unrecognized = notices
            .iter()
            .filter(|notice| matches!(notice, Notice::Unrecognized(..)))
            .count();
        Ok((values, unrecognized))
    }

    #[test]
    fn variables_set_flags_and_unknown_ones_are_only_noticed() {
        let variables = [
            ("ETCD_NAME", "m1"),
            ("ETCD_PRE_VOTE", "false"),
            ("ETCD_NOSUCH", "1"),
            ("ETCD_DATA_DIR", ""),
        ];
        let (values, unrecognized) = given(&[], &variables).expect("there is no fault");
        assert_eq!(values.text("name"), "m1");
        assert!(!values.boolean("pre-vote"));
        assert!(!values.is_given("data-dir"));
        assert_eq!(unrecognized, 2);
    }

    // etcd 3.4.23 refuses this even when the variable is empty.
    #[test]
    fn flag_and_variable_together_are_refused() {
        for text in ["b", ""] {
            let error = given(&["--name", "a"], &[("ETCD_NAME", text)]).expect_err("both");
            assert_eq!(
                error,
                "conflicting environment variable \"ETCD_NAME\" is shadowed by corresponding \
                 command-line flag (either unset environment variable or disable flag)"
            );
        }
    }

    #[test]
    fn bad_values_name_the_variable() {
        let error = given(&[], &[("ETCD_HEARTBEAT_INTERVAL", "abc")]).expect_err("no number");
        assert_eq!(
            error,
            "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error; \
             write milliseconds, a whole number, e.g. 100"
        );
    }
}
