//! One event, one line.
//!
//! JSON has zap's names in zap's order (`level`, `ts`, `caller`, `msg`, then the fields). Text has
//! capnslog's format: `2026-11-22 23:19:43.804438 I | keelson/member: ready to serve ...`.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::fields::Fields;

/// Writes events as lines of the chosen format.
pub(super) struct Lines(pub(super) Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = match self.0 {
            Format::Json => json(event.metadata(), fields),
            Format::Console => console(event.metadata(), fields),
        };
        writeln!(writer, "{line}")
    }
}

fn json(metadata: &Metadata<'_>, fields: Fields) -> String {
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    };
    let mut line = format!(
        "{{\"level\":\"{level}\",\"ts\":\"{}\"",
        milliseconds(&now())
    );
    let mut put = |name: &str, value: Value| {
        let _ = write!(line, ",{}:{value}", Value::from(name));
    };
    put("caller", caller(metadata).into());
    put("msg", fields.message.into());
    for (name, value) in fields.others {
        put(name, value);
    }
    line.push('}');
    line
}

fn console(metadata: &Metadata<'_>, fields: Fields) -> String {
    let level = match *metadata.level() {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO => 'I',
        _ => 'D',
    };
    let time = now().replacen('T', " ", 1);
    let time = time.trim_end_matches('Z');
    let place = metadata.target().replace("::", "/").replace("keelson_", "");
    let mut line = format!("{time} {level} | {place}: ");
    if let Some(plain) = fields.plain {
        line.push_str(&plain);
        return line;
    }
    line.push_str(&fields.message);
    for (name, value) in fields.others {
        let _ = match value {
            Value::String(text) if is_bare(&text) => write!(line, " {name}={text}"),
            value => write!(line, " {name}={value}"),
        };
    }
    line
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '\n', '\t'])
}

/// zap's caller: the file with its directory, and the line.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or("unknown");
    let from = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &file[from..], metadata.line().unwrap_or(0))
}

/// `2026-11-22T23:19:43.804438Z`.
pub(crate) fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// The time to the millisecond, as zap writes it.
pub(super) fn milliseconds(time: &str) -> String {
    match time.find('.') {
        Some(dot) if dot + 4 < time.len() => format!("{}Z", &time[..dot + 4]),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn logged(format: Format, log: impl FnOnce()) -> String {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = text.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines(format))
            .with_writer(move || Captured(sink.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = text.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Captured {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn event() {
        tracing::info!(
            "cluster-version" = "3.5",
            urls = ?["http://a:1"],
            count = 3,
            plain = "enabled capabilities for version 3.5",
            "enabled capabilities for version"
        );
    }

    #[test]
    fn json_has_zaps_names() {
        let line = logged(Format::Json, event);
        assert!(
            line.starts_with("{\"level\":\"info\",\"ts\":\"20"),
            "{line}"
        );
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["msg"], "enabled capabilities for version");
        assert_eq!(value["cluster-version"], "3.5");
        assert_eq!(value["urls"][0], "http://a:1");
        assert_eq!(value["count"], 3);
        assert_eq!(value.get("plain"), None);
        let ts = value["ts"].as_str().unwrap();
        assert_eq!(ts.len(), "2026-11-22T23:19:43.804Z".len());
        assert!(
            value["caller"]
                .as_str()
                .unwrap()
                .starts_with("logging/format.rs:")
        );
    }

    #[test]
    fn text_is_for_people() {
        let line = logged(Format::Console, event);
        assert!(
            line.ends_with(": enabled capabilities for version 3.5\n"),
            "{line}"
        );
        let line = logged(Format::Console, || {
            tracing::warn!(error = %"no \"disk\"", took_ms = 5, "stopped");
        });
        assert!(
            line.contains(" W | keelson/logging/format/tests: stopped"),
            "{line}"
        );
        assert!(
            line.ends_with(" error=\"no \\\"disk\\\"\" took_ms=5\n"),
            "{line}"
        );
    }
}
