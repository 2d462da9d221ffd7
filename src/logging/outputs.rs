//! Where log lines go: each whole line to every output.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
    File(PathBuf),
}

impl Output {
    /// `default` is standard error: systemd takes it to the journal.
    pub(super) fn parse_list(text: &str) -> Vec<Output> {
        let mut outputs = Vec::new();
        for word in text.split(',').map(str::trim) {
            let output = match word {
                "stdout" | "/dev/stdout" => Output::Stdout,
                "" | "default" | "stderr" | "/dev/stderr" | "systemd/journal" => Output::Stderr,
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
            Output::Stderr => io::stderr().is_terminal(),
            Output::File(_) => false,
        }
    }
}

enum Sink {
    Stdout,
    Stderr,
    File(File),
}

/// Writes each line to all outputs; a full disk under the log must not stop the member.
#[derive(Clone)]
pub(super) struct Outputs(Arc<Mutex<Vec<Sink>>>);

impl Outputs {
    pub(super) fn open(outputs: &[Output]) -> Result<Outputs, String> {
        let open = |output: &Output| match output {
            Output::Stdout => Ok(Sink::Stdout),
            Output::Stderr => Ok(Sink::Stderr),
            Output::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(Sink::File)
                .map_err(|error| format!("open {}: {error}; check --log-outputs", path.display())),
        };
        let sinks = outputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Outputs(Arc::new(Mutex::new(sinks))))
    }
}

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut sinks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sink in sinks.iter_mut() {
            let _ = match sink {
                Sink::Stdout => io::stdout().write_all(line),
                Sink::Stderr => io::stderr().write_all(line),
                Sink::File(file) => file.write_all(line),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_as_etcds() {
        let file = Output::File(PathBuf::from("/tmp/x.log"));
        assert_eq!(Output::parse_list("default"), [Output::Stderr]);
        assert_eq!(
            Output::parse_list("stdout,/tmp/x.log,stdout"),
            [Output::Stdout, file]
        );
    }

    #[test]
    fn a_line_goes_to_every_output() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a"), dir.path().join("b")];
        let outputs: Vec<_> = paths.iter().cloned().map(Output::File).collect();
        let mut writer = Outputs::open(&outputs).unwrap();
        writer.write_all(b"line\n").unwrap();
        for path in &paths {
            assert_eq!(std::fs::read(path).unwrap(), b"line\n");
        }
        let missing = Output::File(dir.path().join("no/such/dir"));
        let error = Outputs::open(&[missing]).err().unwrap();
        assert!(error.contains("check --log-outputs"), "{error}");
    }
}
