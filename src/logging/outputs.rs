//! The outputs of the log: each complete line is written to all of them.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::Format;
use super::file::LogFile;
use super::rotation::Rotation;

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
    /// Standard error, with the priority before each line that systemd parses and removes
    /// (`SyslogLevelPrefix=`, on by default).
    Journal,
    File(PathBuf),
}

impl Output {
    /// `default` is standard error, which systemd forwards to the journal.
    pub(super) fn parse_list(text: &str) -> Vec<Output> {
        let mut outputs = Vec::new();
        for word in text.split(',').map(str::trim) {
            let output = match word {
                "stdout" | "/dev/stdout" => Output::Stdout,
                "" | "default" | "stderr" | "/dev/stderr" => Output::Stderr,
                "systemd/journal" => Output::Journal,
                path => Output::File(PathBuf::from(path)),
            };
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        outputs
    }

    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Output::Stdout => io::stdout().is_terminal(),
            Output::Stderr | Output::Journal => io::stderr().is_terminal(),
            Output::File(_) => false,
        }
    }
}

enum Sink {
    Stdout,
    Stderr,
    Journal,
    File(LogFile),
}

/// Writes each line to all outputs. Errors are ignored: a full disk under the log must not stop the
/// member.
#[derive(Clone)]
pub(super) struct Outputs {
    sinks: Arc<Mutex<Vec<Sink>>>,
    /// The priority of the next line, by syslog's numbers.
    priority: u8,
}

const INFO: u8 = 6;

impl Outputs {
    pub(super) fn open(
        outputs: &[Output],
        format: Format,
        rotation: Option<Rotation>,
    ) -> Result<Outputs, String> {
        let rotation = rotation.map(Arc::new);
        let open = |output: &Output| match output {
            Output::Stdout => Ok(Sink::Stdout),
            Output::Stderr => Ok(Sink::Stderr),
            Output::Journal => Ok(Sink::Journal),
            Output::File(path) => LogFile::open(path, format, rotation.clone())
                .map(Sink::File)
                .map_err(|error| format!("open {}: {error}; check --log-outputs", path.display())),
        };
        let sinks = outputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Outputs {
            sinks: Arc::new(Mutex::new(sinks)),
            priority: INFO,
        })
    }

    /// Whether a file is among the outputs.
    pub(super) fn has_files(&self) -> bool {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.iter().any(|sink| matches!(sink, Sink::File(_)))
    }

    /// Opens all files anew. The first error is returned; its file is written on as it was.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let files = sinks.iter_mut().filter_map(|sink| match sink {
            Sink::File(file) => Some(file.reopen()),
            _ => None,
        });
        files.fold(Ok(()), io::Result::and)
    }
}

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        for sink in sinks.iter_mut() {
            let _ = match sink {
                Sink::File(file) => {
                    file.write_line(line);
                    Ok(())
                }
                Sink::Stdout => io::stdout().write_all(line),
                Sink::Stderr => io::stderr().write_all(line),
                Sink::Journal => io::stderr().write_all(&prefixed(self.priority, line)),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Outputs {
    type Writer = Outputs;

    fn make_writer(&self) -> Outputs {
        self.clone()
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Outputs {
        Outputs {
            priority: priority(*metadata.level()),
            ..self.clone()
        }
    }
}

/// The priorities of sd-daemon(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => INFO,
        _ => 7,
    }
}

fn prefixed(priority: u8, line: &[u8]) -> Vec<u8> {
    [format!("<{priority}>").as_bytes(), line].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_as_etcds() {
        let file = Output::File(PathBuf::from("/tmp/x.log"));
        assert_eq!(Output::parse_list("default"), [Output::Stderr]);
        assert_eq!(Output::parse_list("systemd/journal"), [Output::Journal]);
        assert_eq!(
            Output::parse_list("stdout,/tmp/x.log,stdout"),
            [Output::Stdout, file]
        );
    }

    /// `journalctl -p err` selects lines by the priority that systemd parses from them.
    #[test]
    fn the_journals_lines_have_priorities() {
        assert_eq!(prefixed(priority(Level::ERROR), b"line\n"), b"<3>line\n");
        assert_eq!(priority(Level::WARN), 4);
        assert_eq!(priority(Level::INFO), 6);
        assert_eq!(priority(Level::DEBUG), 7);
    }

    #[test]
    fn a_line_goes_to_every_output() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a"), dir.path().join("b")];
        let outputs: Vec<_> = paths.iter().cloned().map(Output::File).collect();
        let mut writer = Outputs::open(&outputs, Format::Json, None).unwrap();
        writer.write_all(b"line\n").unwrap();
        for path in &paths {
            assert_eq!(std::fs::read(path).unwrap(), b"line\n");
        }
        let missing = Output::File(dir.path().join("no/such/dir"));
        let error = Outputs::open(&[missing], Format::Json, None).err().unwrap();
        assert!(error.contains("check --log-outputs"), "{error}");
    }
}
