//! Runs the binary.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Time limit of a process for each step.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without the caller's `ETCD_*` variables in its environment.
pub(crate) fn keelson() -> Command {
    with_clean_environment(env!("CARGO_BIN_EXE_keelson"))
}

pub(crate) fn with_clean_environment(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs the binary to its end, in a directory of its own without an earlier role; words are split
/// at blanks.
pub(crate) fn run(line: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let mut command = keelson();
    command
        .args(line.split_whitespace())
        .current_dir(dir.path());
    Finished::of(command.output().unwrap())
}

/// The exit and the output of a process.
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

/// A running process whose lines are read as they come; it is killed on drop.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// All lines read so far.
    pub(crate) seen: Vec<String>,
}

impl Running {
    /// Reads standard error, where the log is written.
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

    /// Waits for a line that contains `part`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        self.wait_for_all(&[part]).remove(0)
    }

    /// Waits for a line for each of `parts`, in any order.
    #[track_caller]
    pub(crate) fn wait_for_all(&mut self, parts: &[&str]) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = vec![None; parts.len()];
        while found.iter().any(Option::is_none) {
            let left = deadline.saturating_duration_since(Instant::now());
            // The channel reports an error when time is up, or when the process has closed its end.
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {parts:?} ({found:?}) among {:#?}", self.seen);
            };
            for (found, part) in found.iter_mut().zip(parts) {
                if found.is_none() && line.contains(part) {
                    *found = Some(line.clone());
                }
            }
            self.seen.push(line);
        }
        found.into_iter().flatten().collect()
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

/// A free port that no other test of this process gets, below the range that the system uses for
/// outgoing connections.
pub(crate) fn free_port() -> u16 {
    free_ports(&[0])
}

/// A port such that it and the ports at these distances are all free.
pub(crate) fn free_ports(distances: &[u16]) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() * 157;
    loop {
        let step = NEXT.fetch_add(200, Ordering::Relaxed);
        let base = u16::try_from(10_000 + (start + step) % 22_000).unwrap();
        let free = |distance: &u16| TcpListener::bind(("127.0.0.1", base + distance)).is_ok();
        if distances.iter().all(free) {
            return base;
        }
    }
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
