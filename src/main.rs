//! The binary: flags and environment become a configuration, the configuration becomes a role.
//!
//! Under the name `etcd` it behaves as etcd; under the name `keelson` it has further commands. Only
//! the role is decided here: a member's code is in `keelson-store`.

mod announce;
mod bucket;
mod certificates;
mod commands;
mod configuration;
mod environment;
mod flags;
mod heap;
mod host;
mod logging;
mod notify;
mod options;
mod options_jwt;
mod options_tls;
mod pages;
mod playground;
mod process;
mod signals;

use std::path::Path;
use std::process::ExitCode;

use tracing::{error, warn};

use flags::Values;
use flags::syntax::{Parsed, SyntaxError};
use logging::LogOptions;
use options::HostOptions;

fn main() -> ExitCode {
    process::prepare();
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = program_name(&words.next().unwrap_or_default());
    let words: Vec<String> = words.collect();
    if let Err(error) = signals::make_harmless() {
        eprintln!("{program}: cannot catch signals: {error}");
        return ExitCode::FAILURE;
    }
    run(&program, &words)
}

fn run(program: &str, words: &[String]) -> ExitCode {
    match words.first().map(String::as_str) {
        Some("playground") => playground::run(words),
        Some("discovery") => commands::discovery::run(words),
        Some("doctor") => commands::doctor::run(words),
        Some("top") => commands::top::run(words),
        Some("gateway") => commands::gateway::run(words),
        Some("promote") => commands::promote::run(words),
        Some("replace") => commands::replace::run(words),
        Some("follow") => commands::follow::run(program, words),
        Some("cutover") => commands::cutover::run(words),
        Some("export") => commands::export::run(words),
        Some("import") => commands::import::run(words),
        Some("util") => commands::util::run(words),
        Some("grpc-proxy") => commands::grpc_proxy::run(words),
        Some("man") => commands::man::run(words),
        Some("completions") => commands::complete::run(words),
        Some("version") => print(&flags::help::version_text(program)),
        Some("help") => help(program, words.get(1).map(String::as_str)),
        _ => host_role(program, words),
    }
}

fn program_name(path: &str) -> String {
    let name = Path::new(path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "keelson".to_owned())
}

fn host_role(program: &str, words: &[String]) -> ExitCode {
    match flags::syntax::parse(words) {
        Ok(Parsed::Help) => print(&flags::help::help(program)),
        Ok(Parsed::HelpAll) => print(&flags::help::help_all(program)),
        Ok(Parsed::Version) => print(&flags::help::version_text(program)),
        Ok(Parsed::Member(values)) => start_host(program, values),
        Err(error) => refuse_command_line(program, &error),
    }
}

/// `help`, `help all`, `help COMMAND`.
fn help(program: &str, of: Option<&str>) -> ExitCode {
    match of {
        Some("all") => print(&flags::help::help_all(program)),
        Some(command) => run(program, &[command.to_owned(), "--help".to_owned()]),
        None => print(&flags::help::help(program)),
    }
}

/// Writes to standard output. A reader that closes the pipe early (`| head`) is not an error.
pub(crate) fn print(text: &str) -> ExitCode {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    ExitCode::SUCCESS
}

fn refuse_command_line(program: &str, error: &SyntaxError) -> ExitCode {
    match error.remedy() {
        Some(remedy) => eprintln!("{error}\n{remedy}"),
        None => eprintln!("{error}"),
    }
    eprintln!("See '{program} --help'.");
    ExitCode::from(error.exit_code())
}

fn start_host(program: &str, given: Values) -> ExitCode {
    with_log(program, given, |values| {
        // A fault in a flag is reported before anything is done.
        match HostOptions::from_values(values) {
            Ok(options) => {
                end_with_stdin();
                host::run(program, options)
            }
            Err(fault) => refuse_flags(program, &fault.to_string()),
        }
    })
}

/// Completes a host's values, opens its log, and runs it.
fn with_log(program: &str, given: Values, run: impl FnOnce(&Values) -> ExitCode) -> ExitCode {
    let gathered = configuration::gather(given);
    let installed = options::log_options(&gathered.values).and_then(LogOptions::install);
    if installed.is_err() {
        // The error itself must be reported, by any log that can be opened.
        let _ = LogOptions::fallback().install();
    }
    gathered.log();
    match gathered.fault.map_or(installed, Err) {
        Ok(()) => run(&gathered.values),
        Err(fault) => refuse_flags(program, &fault),
    }
}

/// Reports a fault in the flags of a host.
fn refuse_flags(program: &str, fault: &str) -> ExitCode {
    error!(
        error = fault,
        plain = %format_args!("error verifying flags, {fault}. See '{program} --help'."),
        "failed to verify flags"
    );
    ExitCode::FAILURE
}

/// Stops this child of a playground when its parent ends, in any way: the pipe closes.
fn end_with_stdin() {
    if environment::variable(environment::END_WITH_STDIN).is_none() {
        return;
    }
    let watch = || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        warn!("the playground has ended; stopping");
        signals::stop_this_process();
    };
    if let Err(error) = std::thread::Builder::new()
        .name("end-with-stdin".into())
        .spawn(watch)
    {
        warn!(%error, "this process cannot detect the end of its playground");
    }
}
