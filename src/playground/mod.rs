//! `keelson playground`: a whole cluster on loopback, as child processes, to try things out.
//!
//! It does what an operator does: run a discovery service, make one URL, and start every host with
//! it. The hosts are this same executable, started as anybody would start them, and decide by
//! themselves who is a member and who a proxy; the playground only starts, watches and ends them. It
//! knows nothing of the store but its gRPC `Status`.

mod arguments;
mod child;
mod host;
mod plan;
mod screen;
mod service;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::signals::{Signals, Stop};
use arguments::Arguments;
use host::{Host, State};
use screen::Screen;
use service::Discovery;

/// How long the hosts may take until all of them serve and know a leader.
const START_MAX: Duration = Duration::from_secs(60);
/// How often hosts are asked for their status.
const POLL: Duration = Duration::from_millis(500);
/// The same while they start, when somebody waits for it.
const POLL_STARTING: Duration = Duration::from_millis(100);
/// How long hosts may take to stop before they are killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What went wrong, in words for the user. Exit status 1.
#[derive(Debug, thiserror::Error)]
enum PlaygroundError {
    #[error("{0}")]
    Plan(#[from] plan::PlanError),
    #[error("cannot use {0} for the hosts' data: {1}; choose another with --data-dir")]
    Data(PathBuf, std::io::Error),
    #[error("{0}")]
    Service(#[from] service::ServiceError),
    #[error("cannot start {0}: {1}")]
    Spawn(String, std::io::Error),
    #[error("{0} {1} before it served. The end of its log:\n{2}")]
    Ended(String, String, String),
    #[error("{0} does not serve after {1} seconds. The end of its log:\n{2}")]
    Late(String, u64, String),
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Plays until Ctrl-C, SIGTERM, or a host that cannot start.
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
    eprintln!("keelson playground: {error}");
    ExitCode::FAILURE
}

/// Where the hosts' data lies; a temporary one is removed when this goes.
enum Data {
    Temporary(TempDir),
    Kept(PathBuf),
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
                std::fs::create_dir_all(dir)
                    .map_err(|error| PlaygroundError::Data(dir.clone(), error))?;
                Ok(Data::Kept(dir.clone()))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Data::Temporary(dir) => dir.path(),
            Data::Kept(dir) => dir,
        }
    }
}

/// Everything that runs.
#[derive(Default)]
struct Game {
    discovery: Option<Discovery>,
    hosts: Vec<Host>,
}

async fn play(arguments: &Arguments) -> Result<(), PlaygroundError> {
    let mut signals = Signals::catch()?;
    plan::check(arguments)?;
    let data = Data::prepare(arguments)?;
    let mut game = Game::default();
    let played = tokio::select! {
        played = game.follow(arguments, &data) => played,
        _ = signals.next() => Ok(()),
    };
    // Whatever happened, no process is left behind.
    game.end(&mut signals).await;
    played
}

impl Game {
    /// Starts everything and shows it; returns only with an error.
    async fn follow(&mut self, arguments: &Arguments, data: &Data) -> Result<(), PlaygroundError> {
        let discovery = Discovery::bring_up(arguments, data.path()).await?;
        let discovery = self.discovery.insert(discovery);
        for plan in plan::plan(arguments, data.path(), &discovery.url) {
            let name = plan.name.clone();
            let host = Host::start(plan).map_err(|e| PlaygroundError::Spawn(name, e))?;
            self.hosts.push(host);
        }
        let hosts = &mut self.hosts;
        println!("Starting {} hosts ...", hosts.len());
        wait_until_serving(hosts).await?;
        let is_temporary = matches!(data, Data::Temporary(_));
        print!(
            "{}",
            screen::introduction(hosts, discovery, data.path(), is_temporary)
        );
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

    /// SIGTERM for all, SIGKILL for those that do not go; a second Ctrl-C kills at once.
    async fn end(&mut self, signals: &mut Signals) {
        if self.hosts.is_empty() && self.discovery.is_none() {
            return;
        }
        println!("Ending {} hosts ...", self.hosts.len());
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
            Some(_) => println!("Killed."),
            None => println!("Ended."),
        }
    }

    /// Returns when every process is gone.
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
            if let State::Down(how) = &host.state {
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
