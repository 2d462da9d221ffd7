//! Running the binary.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The longest that any of these processes may take for one thing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with nothing of the caller's `ETCD_*` in its environment.
pub(crate) fn keelson() -> Command {
    with_clean_environment(env!("CARGO_BIN_EXE_keelson"))
}

pub(crate) fn with_clean_environment(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs to the end; words are split at blanks.
pub(crate) fn run(line: &str) -> Finished {
    Finished::of(keelson().args(line.split_whitespace()).output().unwrap())
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn of(output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A running process whose lines are read as they come; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// Everything read so far.
    pub(crate) seen: Vec<String>,
}

impl Running {
    /// Reads standard error, where the log goes.
    pub(crate) fn log_of(command: &mut Command) -> Running {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stream = child.stderr.take().unwrap();
        Running::new(child, stream)
    }

    /// Reads standard output.
    pub(crate) fn output_of(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stream = child.stdout.take().unwrap();
        Running::new(child, stream)
    }

    fn new(child: Child, stream: impl Read + Send + 'static) -> Running {
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = tx.send(line);
            }
        });
        Running {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that holds `part`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) else {
                if self.child.try_wait().unwrap().is_some() && self.lines.try_recv().is_err() {
                    break;
                }
                continue;
            };
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("no line with {part:?} among {:#?}", self.seen);
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until `done` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
