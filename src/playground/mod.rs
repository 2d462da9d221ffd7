//! `keelson playground`: a whole cluster on loopback, as child processes, to try things out.
//!
//! It takes an operator's steps: start a discovery service, make one URL, and start every host with
//! it. The hosts are this same executable with the flags that a user would give, and decide their
//! roles by themselves. The playground only starts, watches and stops them. Of the store it uses
//! nothing but the gRPC `Status`.

mod arguments;
mod child;
mod host;
mod plan;
mod screen;
mod secure;
mod service;

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::signals::{Signals, Stop};
use arguments::Arguments;
use host::{Host, HostState};
use screen::Screen;
use service::Discovery;

/// Time limit for all hosts to serve and have a leader.
const START_MAX: Duration = Duration::from_secs(60);
/// The interval of status requests.
const POLL: Duration = Duration::from_millis(500);
/// The interval while the hosts start and a user waits.
const POLL_STARTING: Duration = Duration::from_millis(100);
/// Time limit for hosts to stop before they are killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// An error of the playground, as text for the user. Exit status 1.
#[derive(Debug, thiserror::Error)]
enum PlaygroundError {
    #[error("{0}")]
    Plan(#[from] plan::PlanError),
    #[error("cannot use {0} for the hosts' data: {1}; choose another with --data-dir")]
    Data(PathBuf, std::io::Error),
    #[error("{0} is in use by another playground: stop it, or choose another --data-dir")]
    InUse(PathBuf),
    #[error("{0}")]
    Service(#[from] service::ServiceError),
    #[error("cannot start {0}: {1}")]
    Spawn(String, std::io::Error),
    #[error("{0} {1} before it served. The end of its log:\n{2}")]
    Ended(String, String, String),
    #[error("{0} does not serve after {1} seconds. The end of its log:\n{2}")]
    Late(String, u64, String),
    #[error("{0}")]
    Secure(#[from] secure::SecureError),
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs until Ctrl-C, SIGTERM, or a host that cannot start.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = Arguments::parse_from(words);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(play(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &PlaygroundError) -> ExitCode {
    // Standard error may be gone with the terminal.
    let _ = writeln!(std::io::stderr(), "keelson playground: {error}");
    ExitCode::FAILURE
}

/// The directory of the hosts' data; a temporary one is removed on drop.
enum Data {
    Temporary(TempDir),
    /// Locked as long as the file is open.
    Kept(
        PathBuf,
        #[expect(dead_code, reason = "the open file holds the lock")] File,
    ),
}

impl Data {
    fn prepare(arguments: &Arguments) -> Result<Data, PlaygroundError> {
        match &arguments.data_dir {
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("keelson-playground-")
                    .tempdir();
                Ok(Data::Temporary(dir.map_err(|e| {
                    PlaygroundError::Data(std::env::temp_dir(), e)
                })?))
            }
            Some(dir) => {
                let failed = |error| PlaygroundError::Data(dir.clone(), error);
                std::fs::create_dir_all(dir).map_err(failed)?;
                let lock = File::open(dir).map_err(failed)?;
                match lock.try_lock() {
                    Ok(()) => Ok(Data::Kept(dir.clone(), lock)),
                    Err(TryLockError::WouldBlock) => Err(PlaygroundError::InUse(dir.clone())),
                    Err(TryLockError::Error(error)) => Err(failed(error)),
                }
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Data::Temporary(dir) => dir.path(),
            Data::Kept(dir, _) => dir,
        }
    }
}

/// The running processes.
#[derive(Default)]
struct Playground {
    discovery: Option<Discovery>,
    hosts: Vec<Host>,
}

async fn play(arguments: &Arguments) -> Result<(), PlaygroundError> {
    let mut signals = Signals::catch()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let data = Data::prepare(arguments)?;
    plan::check(arguments)?;
    let mut playground = Playground::default();
    let played = tokio::select! {
        played = playground.follow(arguments, &data) => played,
        _ = signals.next() => Ok(()),
        // The terminal was closed.
        _ = hangup.recv() => Ok(()),
        // The reader of the output has ended, as after `| head`.
        () = screen::closed() => Ok(()),
    };
    // No process is left behind, whether there was an error or not.
    playground.end(&mut signals).await;
    played
}

impl Playground {
    /// Starts all processes and shows their states; returns only with an error.
    async fn follow(&mut self, arguments: &Arguments, data: &Data) -> Result<(), PlaygroundError> {
        let secure = secure::prepare(arguments.secure, data.path())?.map(Arc::new);
        let discovery = Discovery::bring_up(arguments, data.path()).await?;
        let discovery = self.discovery.insert(discovery);
        for plan in plan::plan(arguments, data.path(), &discovery.url, secure.as_deref()) {
            let name = plan.name.clone();
            let host =
                Host::start(plan, secure.clone()).map_err(|e| PlaygroundError::Spawn(name, e))?;
            self.hosts.push(host);
        }
        let hosts = &mut self.hosts;
        let all = screen::number(hosts.len(), "host", "hosts");
        screen::print(&format!("Starting {all} ...\n"));
        wait_until_serving(hosts).await?;
        if let (Some(secure), Some(host)) = (&secure, hosts.first()) {
            secure.enable_auth(&host.plan.client_url).await?;
        }
        let is_temporary = matches!(data, Data::Temporary(_));
        screen::print(&screen::introduction(
            hosts,
            discovery,
            data.path(),
            is_temporary,
            secure.as_deref(),
        ));
        let mut screen = Screen::new(hosts);
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            host::observe_all(hosts).await;
            screen.show(hosts);
            if arguments.restart {
                restart_dead(hosts)?;
            }
        }
    }

    /// SIGTERM for all, SIGKILL for those that do not end in time; a second Ctrl-C kills at once.
    async fn end(&mut self, signals: &mut Signals) {
        if self.hosts.is_empty() && self.discovery.is_none() {
            return;
        }
        let alive = self.hosts.iter().filter(|host| !host.is_down()).count();
        let alive = screen::number(alive, "host", "hosts");
        screen::print(&format!("Ending {alive} ...\n"));
        self.hosts.iter().for_each(Host::terminate);
        self.discovery.iter().for_each(Discovery::terminate);
        let deadline = Instant::now() + STOP_MAX;
        let impatient: Option<Stop> = tokio::select! {
            () = self.ended() => None,
            () = sleep_until(deadline) => None,
            stop = signals.next() => Some(stop),
        };
        for host in &mut self.hosts {
            host.kill().await;
        }
        if let Some(discovery) = &mut self.discovery {
            discovery.kill().await;
        }
        match impatient {
            Some(_) => screen::print("Killed.\n"),
            None => screen::print("Ended.\n"),
        }
    }

    /// Returns when every process has ended.
    async fn ended(&mut self) {
        for host in &mut self.hosts {
            host.ended().await;
        }
        if let Some(discovery) = &mut self.discovery {
            discovery.ended().await;
        }
    }
}

fn restart_dead(hosts: &mut [Host]) -> Result<(), PlaygroundError> {
    for host in hosts.iter_mut().filter(|host| host.is_down()) {
        let restarted = host.restart();
        restarted.map_err(|error| PlaygroundError::Spawn(host.plan.name.clone(), error))?;
    }
    Ok(())
}

async fn wait_until_serving(hosts: &mut [Host]) -> Result<(), PlaygroundError> {
    let deadline = Instant::now() + START_MAX;
    let mut ticks = interval(POLL_STARTING);
    loop {
        ticks.tick().await;
        host::observe_all(hosts).await;
        for host in hosts.iter() {
            if let HostState::Down(how) = &host.state {
                let (name, how) = (host.plan.name.clone(), how.clone());
                return Err(PlaygroundError::Ended(name, how, host.log_tail()));
            }
        }
        let late = hosts.iter().find(|host| !host.serves());
        match late {
            None => return Ok(()),
            Some(host) if deadline < Instant::now() => {
                let (name, seconds) = (host.plan.name.clone(), START_MAX.as_secs());
                return Err(PlaygroundError::Late(name, seconds, host.log_tail()));
            }
            Some(_) => {}
        }
    }
}
