//! `keelson top`: what the keys of each prefix are used for: requests a second of all members'
//! clients, and keys and bytes.
//!
//! `sample` calls the members, `uses` adds and compares samples without IO, `report` writes them.
//! On a terminal the table is written anew until the command ends; elsewhere it is written once.

mod report;
mod sample;
mod uses;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use console::Term;
use tokio::runtime::Builder;
use tokio::time::Instant;

use self::sample::SampledCluster;
use self::uses::{Activity, Sample};
use super::access::AccessArguments;
use super::{Form, url_of};

/// After so many tables keys and bytes are counted again, for which a member reads all rows.
const SIZES_EVERY: u32 = 15;

/// Show what the keys of each prefix are used for: requests a second, keys and bytes.
#[derive(Debug, Parser)]
#[command(name = "top", bin_name = "keelson top")]
struct TopArguments {
    /// Comma separated list of client addresses of members or proxies.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// The time between two looks at the members.
    #[arg(long, default_value = "2s", value_parser = crate::flags::duration)]
    interval: Duration,
    /// Write one table and end, as when the output is no terminal.
    #[arg(long)]
    once: bool,
    /// The first prefixes.
    #[arg(long, value_enum, default_value = "requests")]
    sort: Order,
    /// The number of prefixes.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// The form of the output; JSON is written once.
    #[arg(short, long, value_enum, default_value = "simple")]
    write_out: Form,
    /// The time for each answer of a member.
    #[arg(long, default_value = "30s", value_parser = crate::flags::duration)]
    command_timeout: Duration,
    #[command(flatten)]
    access: AccessArguments,
}

/// What the table is sorted by, the highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Requests,
    Reads,
    Writes,
    Keys,
    Bytes,
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <TopArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = match TopArguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson top: {error}");
            ExitCode::FAILURE
        }
    }
}

impl TopArguments {
    fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let secure = self.access.is_secure();
        let urls: Vec<String> = self
            .endpoints
            .iter()
            .map(|one| url_of(one, secure))
            .collect();
        let access = self.access.access()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut cluster = SampledCluster::find(&urls, access, self.command_timeout).await?;
            let before = cluster.sample(true).await?;
            self.show(&mut cluster, before).await
        })
    }

    async fn show(
        &self,
        cluster: &mut SampledCluster,
        mut before: Sample,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let terminal = Term::stdout();
        let once = self.once || self.write_out == Form::Json || !terminal.is_term();
        let mut due = Instant::now();
        for round in 1.. {
            due = (due + self.interval).max(Instant::now());
            tokio::time::sleep_until(due).await;
            let mut now = cluster.sample(round % SIZES_EVERY == 0).await?;
            now.take_sizes(&before);
            let mut activity = Activity::between(&before, &now);
            activity.sort(self.sort);
            activity.limit(self.limit);
            let text = match self.write_out {
                Form::Simple => report::text(&activity),
                Form::Json => report::json(&activity),
            };
            if !once {
                terminal.clear_screen()?;
            }
            // A reader that closes the pipe early is not an error.
            if std::io::stdout().write_all(text.as_bytes()).is_err() || once {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
