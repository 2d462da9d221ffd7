//! `keelson playground`: a whole cluster on loopback, as child processes, to try things out.
//!
//! The members are this same executable, started as anybody would start them; the playground only
//! starts, watches and ends them. It knows nothing of the store but its gRPC `Status`.

mod arguments;
mod member;
mod plan;
mod screen;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::signals::{Signals, Stop};
use arguments::Arguments;
use member::{Member, State};
use plan::MemberPlan;
use screen::Screen;

/// How long the members may take until all of them serve and know a leader.
const START_MAX: Duration = Duration::from_secs(60);
/// How often members are asked for their status.
const POLL: Duration = Duration::from_millis(500);
/// The same while they start, when somebody waits for it.
const POLL_STARTING: Duration = Duration::from_millis(100);
/// How long members may take to stop before they are killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What went wrong, in words for the user. Exit status 1.
#[derive(Debug, thiserror::Error)]
enum PlaygroundError {
    #[error("{0}")]
    Plan(#[from] plan::PlanError),
    #[error("cannot use {0} for the members' data: {1}; choose another with --data-dir")]
    Data(PathBuf, std::io::Error),
    #[error("cannot start {0}: {1}")]
    Spawn(String, std::io::Error),
    #[error("{0} {1} before it served. The end of its log:\n{2}")]
    Ended(String, String, String),
    #[error("{0} does not serve after {1} seconds. The end of its log:\n{2}")]
    Late(String, u64, String),
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Plays until Ctrl-C, SIGTERM, or a member that cannot start.
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

/// Where the members' data lies; a temporary one is removed when this goes.
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

async fn play(arguments: &Arguments) -> Result<(), PlaygroundError> {
    let mut signals = Signals::catch()?;
    plan::check_ports(arguments)?;
    let data = Data::prepare(arguments)?;
    let plans = plan::plan(arguments, data.path());
    let mut members = Vec::with_capacity(plans.len());
    let played = tokio::select! {
        played = follow(&mut members, plans, arguments, &data) => played,
        _ = signals.next() => Ok(()),
    };
    // Whatever happened, no member is left behind.
    end_all(&mut members, &mut signals).await;
    played
}

/// Starts the members and shows them; returns only with an error.
async fn follow(
    members: &mut Vec<Member>,
    plans: Vec<MemberPlan>,
    arguments: &Arguments,
    data: &Data,
) -> Result<(), PlaygroundError> {
    for plan in plans {
        let name = plan.name.clone();
        members.push(Member::start(plan).map_err(|e| PlaygroundError::Spawn(name, e))?);
    }
    println!("Starting {} members ...", members.len());
    wait_until_serving(members).await?;
    print!(
        "{}",
        screen::introduction(members, data.path(), matches!(data, Data::Temporary(_)))
    );
    let mut screen = Screen::new(members);
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        member::observe_all(members).await;
        screen.show(members);
        if arguments.restart {
            for member in members.iter_mut().filter(|member| member.is_down()) {
                let name = member.plan.name.clone();
                member
                    .restart()
                    .map_err(|error| PlaygroundError::Spawn(name, error))?;
            }
        }
    }
}

async fn wait_until_serving(members: &mut [Member]) -> Result<(), PlaygroundError> {
    let deadline = Instant::now() + START_MAX;
    let mut ticks = interval(POLL_STARTING);
    loop {
        ticks.tick().await;
        member::observe_all(members).await;
        for member in members.iter() {
            if let State::Down(how) = &member.state {
                let (name, how) = (member.plan.name.clone(), how.clone());
                return Err(PlaygroundError::Ended(name, how, member.log_tail()));
            }
        }
        let late = members.iter().find(|member| !member.serves());
        match late {
            None => return Ok(()),
            Some(member) if deadline < Instant::now() => {
                let name = member.plan.name.clone();
                return Err(PlaygroundError::Late(
                    name,
                    START_MAX.as_secs(),
                    member.log_tail(),
                ));
            }
            Some(_) => {}
        }
    }
}

/// SIGTERM for all, SIGKILL for those that do not go; a second Ctrl-C kills at once.
async fn end_all(members: &mut [Member], signals: &mut Signals) {
    if members.is_empty() {
        return;
    }
    println!("Ending {} members ...", members.len());
    for member in members.iter() {
        member.terminate();
    }
    let deadline = Instant::now() + STOP_MAX;
    let impatient: Option<Stop> = tokio::select! {
        () = member::all_ended(members) => None,
        () = sleep_until(deadline) => None,
        stop = signals.next() => Some(stop),
    };
    for member in members.iter_mut() {
        member.kill().await;
    }
    match impatient {
        Some(_) => println!("Killed."),
        None => println!("Ended."),
    }
}
