//! A command that runs until it is interrupted.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

/// The time limit for the text, and for the end after an interrupt: only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// The interval at which the output is read.
const POLL: Duration = Duration::from_millis(5);

/// A running etcdctl.
pub(super) struct Stream {
    child: Child,
    output: NamedTempFile,
    /// An interactive watch ends with its input.
    _input: ChildStdin,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It fails if the process has ended, which is the aim.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stream {
    /// Starts etcdctl, and waits until it has printed a text.
    pub(super) fn start(
        etcdctl: &Path,
        endpoint: &str,
        arguments: &str,
        input: &str,
        expected: &str,
    ) -> Result<Stream> {
        let output = NamedTempFile::new()?;
        let file = output.reopen()?;
        let mut child = Command::new(etcdctl)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoint])
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes())?;
        let mut stream = Stream {
            child,
            output,
            _input: stdin,
        };
        let begin = Instant::now();
        while !stream.output()?.contains(expected) {
            let printed = stream.output()?;
            let ended = stream.child.try_wait()?;
            ensure!(
                ended.is_none() && begin.elapsed() < LIMIT,
                "etcdctl {arguments} has not printed {expected:?}, {ended:?}:\n{printed}"
            );
            std::thread::sleep(POLL);
        }
        Ok(stream)
    }

    /// Interrupts it as a terminal does. Returns how it has ended, and its output.
    pub(super) fn stop(mut self) -> Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(format!("{status}\n{}", self.output()?));
            }
            ensure!(begin.elapsed() < LIMIT, "it goes on after an interrupt");
            std::thread::sleep(POLL);
        }
    }

    fn output(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.output.path())?).into_owned())
    }
}
