//! `keelson doctor`: one command, one verdict: what is wrong with a cluster, at which member, and
//! what mends it. Its exit code is for monitoring.
//!
//! `gather` collects facts, `checks` derives the findings from them without IO, and `report` writes
//! them. Nothing is changed in the cluster.

mod checks;
mod facts;
mod finding;
mod gather;
mod report;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;

use self::finding::{UNKNOWN, Verdict};
use self::gather::Examined;
use super::access::AccessArguments;
use super::{Form, url_of};

/// Examine a cluster: what is wrong, at which member, and the command that mends it. Exits with 0
/// if it is healthy, 1 for a warning, 2 if it is critical, 3 if it cannot be examined.
#[derive(Debug, Parser)]
#[command(name = "doctor", bin_name = "keelson doctor")]
struct DoctorArguments {
    /// Comma separated list of client addresses of members or proxies.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// The form of the report.
    #[arg(short, long, value_enum, default_value = "simple")]
    write_out: Form,
    /// The time for each answer of a member.
    #[arg(long, default_value = "5s", value_parser = crate::flags::duration)]
    command_timeout: Duration,
    #[command(flatten)]
    access: AccessArguments,
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <DoctorArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let arguments = match DoctorArguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { UNKNOWN } else { 0 });
        }
    };
    match arguments.run() {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            eprintln!("keelson doctor: {error}");
            ExitCode::from(UNKNOWN)
        }
    }
}

impl DoctorArguments {
    fn run(self) -> Result<Verdict, Box<dyn std::error::Error>> {
        let secure = self.access.is_secure();
        let urls = self.endpoints.iter().map(|one| url_of(one, secure));
        let urls: Vec<String> = urls.collect();
        let examined = Examined {
            access: self.access.access()?,
            answer_max: self.command_timeout,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let facts = runtime.block_on(gather::facts(&urls, examined));
        runtime.shutdown_background();
        let findings = checks::diagnose(&facts);
        let text = match self.write_out {
            Form::Simple => report::text(&facts, &findings),
            Form::Json => report::json(&facts, &findings),
        };
        // A reader that closes the pipe early is not an error.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(Verdict::of(&findings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        DoctorArguments::command().debug_assert();
    }
}
