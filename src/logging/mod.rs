//! The log: text for people, JSON with zap's names for machines, on any number of outputs.

mod fields;
mod format;
mod outputs;

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
        })
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
        }
    }

    /// Opens the outputs and receives every event of the process from now on.
    pub(crate) fn install(self) -> Result<(), String> {
        let (subscriber, control) = self.subscriber()?;
        subscriber.try_init().map_err(|error| error.to_string())?;
        let _ = CONTROL.set(control);
        Ok(())
    }

    /// The subscriber, and the handle that changes its level.
    fn subscriber(self) -> Result<(impl Subscriber + Send + Sync, Control), String> {
        let outputs = Outputs::open(&self.outputs)?;
        let (filter, control) = reload::Layer::new(targets(self.level));
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Lines(self.format))
            .with_writer(outputs)
            .with_filter(filter);
        Ok((tracing_subscriber::registry().with(lines), control))
    }
}

/// The handle that changes the level.
type Control = reload::Handle<Targets, Registry>;

/// The handle of the installed log.
static CONTROL: OnceLock<Control> = OnceLock::new();

/// Our own crates at the requested level; libraries from `warn` on.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("keelson", level)
}

/// `PUT /config/local/log`: changes the level of the installed log.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(control) = CONTROL.get() {
        change_level(control, level);
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

    /// `PUT /config/local/log` was answered with 204 and changed nothing.
    #[test]
    fn the_level_can_be_changed_while_the_log_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let outputs = path.to_str().expect("a name");
        let options = LogOptions::parse("json", "", outputs, "info").expect("good");
        let (subscriber, control) = options.subscriber().expect("it can be opened");
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
