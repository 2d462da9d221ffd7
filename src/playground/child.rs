//! A child process of the playground, with its log in a file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use crate::environment;

/// The number of log lines shown for a process that could not start.
const TAIL_LINES: usize = 15;

/// The program that the playground starts for its hosts: itself.
pub(super) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Starts a program that ends when this process ends, in any way.
pub(super) fn spawn(program: &Path, arguments: &[String], log: &Path) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    remove_variables(&mut command);
    command
        .args(arguments)
        .env(environment::END_WITH_STDIN, "1")
        // Nothing is written to it: when this process ends, in any way, the pipe closes.
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C on the terminal reaches the playground only, which stops the others in its own
        // order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// The user's variables are meant for one host, not for all of these.
fn remove_variables(command: &mut Command) {
    for (name, _) in environment::etcd_variables() {
        command.env_remove(name);
    }
    let others = [
        environment::CONFIG_FILE,
        environment::DEIS_NUM_INSTANCES,
        environment::NOTIFY_SOCKET,
        "DISC_ADDR",
        "DISC_HOST",
        "DISC_ETCD",
    ];
    for name in others {
        command.env_remove(name);
    }
}

/// Sends SIGTERM.
pub(super) fn terminate(child: &Child) {
    let process = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(process) = process.and_then(rustix::process::Pid::from_raw) {
        // An error means that the process has already ended.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
    }
}

/// How a process ended, as text.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let tail: Vec<String> = lines[from..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect();
    tail.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that reads a configuration file ignores the flags it is given.
    #[test]
    fn a_child_reads_no_configuration_file_of_the_user() {
        let mut command = Command::new("true");
        remove_variables(&mut command);
        let name = std::ffi::OsStr::new("KEELSON_CONFIG_FILE");
        let mut removed = command.as_std().get_envs();
        assert!(removed.any(|variable| variable == (name, None)));
    }
}
