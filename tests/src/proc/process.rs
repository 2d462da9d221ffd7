//! A child process that ends when its owner ends, in any way.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::environment;

/// util-linux's helper that makes the kernel kill the child when its parent dies.
const SETPRIV: &str = "/usr/bin/setpriv";

/// The interval at which the child is checked.
const POLL: Duration = Duration::from_millis(5);

/// A running child process.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` with its output going to `log`.
    ///
    /// # Errors
    /// The program cannot be started or the log cannot be opened.
    pub fn start(program: &Path, args: &[String], log: &Path) -> Result<Process> {
        Process::start_with(program, args, &[], log)
    }

    /// Starts `program` with these variables in its environment.
    ///
    /// # Errors
    /// The program cannot be started or the log cannot be opened.
    pub fn start_with(
        program: &Path,
        args: &[String],
        variables: &[(String, String)],
        log: &Path,
    ) -> Result<Process> {
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("cannot open the log {}", log.display()))?;
        let mut command = wrapped(program);
        command.args(args).stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out);
        // A member must see the flags alone: both binaries also read ETCD_* variables.
        for name in environment::server_variables() {
            command.env_remove(name);
        }
        for (name, text) in variables {
            command.env(name, text);
        }
        let child = spawn(command);
        let child = child.with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Process { child })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has already ended is not an error.
    ///
    /// # Errors
    /// The process cannot be signalled.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.pid()))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The kernel has no such child.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It runs on after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if begin.elapsed() > limit {
                bail!("process {} runs on after {limit:?}", self.pid());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills it with signal 9 and reaps it. Blocks for the few milliseconds that the kernel needs.
    pub fn kill(&mut self) {
        // Both fail only when the child has ended, which is the goal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command for `program`, wrapped where possible so that the kernel kills it with its parent.
/// `setpriv` replaces itself with the program, so the pid is the program's.
fn wrapped(program: &Path) -> Command {
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

type Job = (Command, Sender<std::io::Result<Child>>);

/// Starts the child from a thread that never ends: the kernel's "parent died" means the parent
/// *thread*, and test threads end early.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The caller waits below, so the receiver exists.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (answer, outcome) = channel();
    let jobs = spawner
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    jobs.send((command, answer))
        .expect("the spawner never ends");
    outcome.recv().expect("the spawner always answers")
}
