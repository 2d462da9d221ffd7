//! The log: text for people, JSON with zap's names for machines, on any number of outputs.

mod fields;
mod file;
mod format;
mod outputs;
mod rotation;

pub(crate) use self::format::now as timestamp;
use std::io::IsTerminal;
use std::sync::OnceLock;

use keelson_store::edge::v2::LogLevel;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use format::Lines;
use outputs::{Output, Outputs};
use rotation::Rotation;

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As capnslog of etcd 3.4 and before.
    Console,
    /// As zap of etcd 3.4 and later.
    Json,
}

/// The options from `--log-*` and `--logger`.
#[derive(Debug)]
pub(crate) struct LogOptions {
    format: Format,
    outputs: Vec<Output>,
    level: LevelFilter,
    rotation: Option<Rotation>,
}

impl LogOptions {
    /// `--log-format` has precedence over `--logger`; with neither, a terminal gets text and other
    /// outputs JSON.
    pub(crate) fn parse(
        format: &str,
        logger: &str,
        outputs: &str,
        level: &str,
    ) -> Result<LogOptions, String> {
        let outputs = Output::parse_list(outputs);
        let format = match (format, logger) {
            ("json", _) | ("", "zap") => Format::Json,
            ("console", _) | ("", "capnslog") => Format::Console,
            ("", "") if outputs.iter().all(Output::is_terminal) => Format::Console,
            ("", "") => Format::Json,
            ("", other) => {
                return Err(format!(
                    "unknown logger option \"{other}\"; choose zap or capnslog"
                ));
            }
            (other, _) => {
                return Err(format!(
                    "unknown log format \"{other}\"; choose json or console"
                ));
            }
        };
        let level = match level {
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" => LevelFilter::WARN,
            _ => LevelFilter::ERROR, // error, dpanic, panic, fatal
        };
        Ok(LogOptions {
            format,
            outputs,
            level,
            rotation: None,
        })
    }

    /// `--enable-log-rotation`, with the text of `--log-rotation-config-json`. The first text is
    /// etcd's.
    pub(crate) fn with_rotation(mut self, json: &str) -> Result<LogOptions, String> {
        let files = self.outputs.iter();
        let files = files.filter(|output| matches!(output, Output::File(_)));
        if files.count() != 1 {
            return Err(
                "--log-outputs requires a single file path when --log-rotate-config-json is \
                 defined; leave --enable-log-rotation out, or give one path"
                    .to_owned(),
            );
        }
        self.rotation = Some(Rotation::parse(json)?);
        Ok(self)
    }

    /// For errors in the log's own flags: standard error, from level `info`.
    pub(crate) fn fallback() -> LogOptions {
        let format = if std::io::stderr().is_terminal() {
            Format::Console
        } else {
            Format::Json
        };
        LogOptions {
            format,
            outputs: vec![Output::Stderr],
            level: LevelFilter::INFO,
            rotation: None,
        }
    }

    /// Opens the outputs and receives every event of the process from now on.
    pub(crate) fn install(self) -> Result<(), String> {
        let (subscriber, installed) = self.subscriber()?;
        subscriber.try_init().map_err(|error| error.to_string())?;
        let _ = INSTALLED.set(installed);
        Ok(())
    }

    /// The subscriber, and what may change of it.
    fn subscriber(self) -> Result<(impl Subscriber + Send + Sync, Installed), String> {
        let outputs = Outputs::open(&self.outputs, self.format, self.rotation)?;
        let installed = outputs.clone();
        let (filter, control) = reload::Layer::new(targets(self.level));
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Lines(self.format))
            .with_writer(outputs)
            .with_filter(filter);
        let installed = Installed {
            control,
            outputs: installed,
        };
        Ok((tracing_subscriber::registry().with(lines), installed))
    }
}

/// The handle that changes the level.
type Control = reload::Handle<Targets, Registry>;

/// What may change while the log is written.
struct Installed {
    control: Control,
    outputs: Outputs,
}

/// The log of this process.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Whether the log is written to a file.
pub(crate) fn has_files() -> bool {
    INSTALLED.get().is_some_and(|log| log.outputs.has_files())
}

/// Opens the files of the log anew, after another program has renamed them, and logs whether that
/// succeeded.
pub(crate) fn reopen() {
    let Some(log) = INSTALLED.get().filter(|_| has_files()) else {
        return;
    };
    match log.outputs.reopen() {
        Ok(()) => tracing::info!("received SIGHUP: the log files are open anew"),
        Err(error) => {
            tracing::warn!(%error, "a log file cannot be opened anew: it is written on as it was");
        }
    }
}

/// Our own crates at the requested level; libraries from `warn` on.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("keelson", level)
}

/// `PUT /config/local/log`: changes the level of the installed log.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(log) = INSTALLED.get() {
        change_level(&log.control, level);
    }
}

fn change_level(control: &Control, level: LogLevel) {
    let filter = match level {
        LogLevel::Critical | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Notice | LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    match control.reload(targets(filter)) {
        Ok(()) => tracing::info!(level = %filter, "the log level was changed"),
        Err(error) => tracing::warn!(%error, "the log level cannot be changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, logger: &str, expected: Format) {
        let options = LogOptions::parse(format, logger, "/dev/null", "info").expect("good");
        assert_eq!(options.format, expected, "{format} {logger}");
    }

    #[test]
    fn the_format_follows_from_flags_and_outputs() {
        check("", "", Format::Json);
        check("", "zap", Format::Json);
        check("", "capnslog", Format::Console);
        check("console", "zap", Format::Console);
        check("json", "capnslog", Format::Json);
        let error = LogOptions::parse("", "foo", "default", "info").expect_err("no such logger");
        assert!(error.starts_with("unknown logger option \"foo\""));
    }

    #[test]
    fn rotation_needs_one_file() {
        let rotated = |outputs: &str, json: &str| {
            let options = LogOptions::parse("json", "", outputs, "info").expect("good");
            options.with_rotation(json)
        };
        assert!(rotated("stderr,/tmp/a.log", "{}").is_ok());
        for outputs in ["default", "/tmp/a.log,/tmp/b.log"] {
            let error = rotated(outputs, "{}").expect_err(outputs);
            assert!(error.starts_with("--log-outputs requires a single file path when "));
        }
        assert!(rotated("/tmp/a.log", "").is_err());
    }

    /// `PUT /config/local/log` was answered with 204 and changed nothing.
    #[test]
    fn the_level_can_be_changed_while_the_log_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let outputs = path.to_str().expect("a name");
        let options = LogOptions::parse("json", "", outputs, "info").expect("good");
        let (subscriber, log) = options.subscriber().expect("it can be opened");
        let control = log.control;
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "keelson_store", "first");
            change_level(&control, LogLevel::Debug);
            tracing::debug!(target: "keelson_store", "second");
            change_level(&control, LogLevel::Error);
            tracing::info!(target: "keelson_store", "third");
        });
        let log = std::fs::read_to_string(&path).expect("lines");
        let has = |text: &str| log.contains(text);
        assert!(!has("first") && has("second") && !has("third"), "{log}");
    }
}
