//! The values of a host: those of its configuration file, or else of its flags and variables.

use tracing::{info, warn};

use crate::environment;
use crate::flags::config_file::{self, Loaded};
use crate::flags::environment::{Notice, apply};
use crate::flags::{Source, Values};

/// etcd's variable for `--config-file`, the only one that counts beside a file.
const ETCD_CONFIG_FILE: &str = "ETCD_CONFIG_FILE";

/// Values with what is to be logged of them once the log is open.
pub(crate) struct Gathered {
    /// What the command line has, where there is a fault.
    pub(crate) values: Values,
    notices: Vec<Notice>,
    file: Option<FileNotice>,
    /// A fault in a file or a variable, if there is one.
    pub(crate) fault: Option<String>,
}

/// The log lines of a configuration file.
struct FileNotice {
    path: String,
    /// Flags and variables without effect.
    ignored: Vec<String>,
    warnings: Vec<String>,
}

/// Adds a file's or the environment's values to those of the command line.
pub(crate) fn gather(given: Values) -> Gathered {
    let variables = environment::etcd_variables();
    let ours = environment::variable(environment::CONFIG_FILE);
    match config_file(&given, ours, &variables) {
        Some(path) => of_file(given, path, &variables),
        None => of_environment(given, &variables),
    }
}

/// The path of the configuration file. As in etcd, the flag has precedence.
fn config_file(
    given: &Values,
    ours: Option<String>,
    variables: &[(String, String)],
) -> Option<String> {
    let flag = Some(given.text("config-file").to_owned());
    let etcds = variables.iter().find(|(name, _)| name == ETCD_CONFIG_FILE);
    let etcds = etcds.map(|(_, path)| path.clone());
    let mut paths = [flag, ours, etcds].into_iter().flatten();
    paths.find(|path| !path.is_empty())
}

fn of_environment(mut values: Values, variables: &[(String, String)]) -> Gathered {
    let (notices, fault) = match apply(&mut values, variables) {
        Ok(notices) => (notices, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Gathered {
        values,
        notices,
        file: None,
        fault,
    }
}

fn of_file(given: Values, path: String, variables: &[(String, String)]) -> Gathered {
    let flags = given.given().filter(|name| *name != "config-file");
    let flags = flags.map(|name| format!("--{name}"));
    let names = variables.iter().map(|(name, _)| name.clone());
    let names = names.filter(|name| name != ETCD_CONFIG_FILE);
    let ignored = flags.chain(names).collect();
    let (values, warnings, fault) = match config_file::load(&path) {
        Ok(Loaded {
            values,
            mut warnings,
        }) => {
            warnings.extend(advertises_default(&values));
            (values, warnings, None)
        }
        Err(error) => (given, Vec::new(), Some(error.to_string())),
    };
    Gathered {
        values,
        notices: Vec::new(),
        file: Some(FileNotice {
            path,
            ignored,
            warnings,
        }),
        fault,
    }
}

/// As in etcd, a file may have listen URLs alone. The default is then advertised, which other hosts
/// cannot reach.
fn advertises_default(values: &Values) -> Option<String> {
    let is_alone = values.source("listen-client-urls") == Some(Source::ConfigFile)
        && !values.is_given("advertise-client-urls");
    let (advertised, listened) = ("advertise-client-urls", "listen-client-urls");
    let (advertised, listened) = (values.text(advertised), values.text(listened));
    // The host's own address is advertised in place of 0.0.0.0, in plaintext as etcd does.
    let is_reachable = listened == advertised || listened.starts_with("http://0.0.0.0:");
    (is_alone && !is_reachable).then(|| {
        format!(
            "advertise-client-urls is not set: {advertised} is advertised; set it to URLs that \
             clients can reach"
        )
    })
}

impl Gathered {
    /// Logs where the values are from.
    pub(crate) fn log(&self) {
        self.notices.iter().for_each(log_notice);
        let Some(file) = &self.file else { return };
        let path = &file.path;
        info!(
            path,
            plain = %format_args!(
                "Loading server configuration from \"{path}\". Other configuration command line \
                 flags and environment variables will be ignored if provided."
            ),
            "loaded server configuration, other configuration command line flags and environment \
             variables will be ignored if provided"
        );
        if !file.ignored.is_empty() {
            let names = file.ignored.join(", ");
            warn!("ignored because of the configuration file: {names}");
        }
        for text in &file.warnings {
            warn!("{text}");
        }
    }
}

fn log_notice(notice: &Notice) {
    match notice {
        Notice::Used(name, text) => info!(
            "variable-name" = name,
            "variable-value" = text,
            plain = %format_args!("recognized and used environment variable {name}={text}"),
            "recognized and used environment variable"
        ),
        Notice::Unrecognized(name, text) => warn!(
            "environment-variable" = %format_args!("{name}={text}"),
            plain = %format_args!("unrecognized environment variable {name}={text}"),
            "unrecognized environment variable"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::syntax::{Parsed, parse};

    fn given(line: &str) -> Values {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(Parsed::Member(values)) => values,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn variables(all: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = all.iter().map(|(name, text)| (*name, *text));
        owned
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    }

    #[test]
    fn the_flag_comes_before_the_variables() {
        let etcds = variables(&[(ETCD_CONFIG_FILE, "c")]);
        let ours = || Some("b".to_owned());
        let path = |line: &str, ours, etcds: &[_]| config_file(&given(line), ours, etcds);
        assert_eq!(
            path("--config-file a", ours(), &etcds).as_deref(),
            Some("a")
        );
        assert_eq!(path("--config-file=", ours(), &etcds).as_deref(), Some("b"));
        assert_eq!(path("", None, &etcds).as_deref(), Some("c"));
        assert_eq!(path("", None, &variables(&[(ETCD_CONFIG_FILE, "")])), None);
    }

    /// In etcd a flag and a variable of one name are no conflict beside a file.
    #[test]
    fn a_file_hides_flags_and_variables() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m.yml");
        let text = "name: a\nlisten-client-urls: http://10.0.0.1:2379\n";
        std::fs::write(&path, text).expect("room");
        let path = path.display().to_string();
        let environment = variables(&[(ETCD_CONFIG_FILE, "x"), ("ETCD_NAME", "c")]);
        let all = of_file(given("--name b --data-dir d"), path, &environment);
        assert_eq!(all.fault, None);
        assert_eq!(
            (all.values.text("name"), all.values.text("data-dir")),
            ("a", "")
        );
        let file = all.file.expect("there is one");
        assert_eq!(file.ignored, ["--data-dir", "--name", "ETCD_NAME"]);
        assert!(file.warnings[0].contains("advertise-client-urls is not set"));
    }
}
