//! `keelson completions SHELL`: what a shell offers at TAB, made from the flag table and from the
//! command lines of the commands.

mod shells;

use std::process::ExitCode;

use clap::{Arg, Command};

use crate::flags::{self, Effect, Kind};

/// Flags and subcommands that may follow the words of a path.
#[derive(Debug, PartialEq, Eq)]
struct Level {
    /// `""` for the program itself, `"gateway start"` for a command of a command.
    path: String,
    entries: Vec<Choice>,
}

/// A flag with its dashes, or a command.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    word: String,
    /// One line.
    about: String,
    value: Takes,
}

/// The value of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Text,
    File,
    OneOf(Vec<String>),
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let all = levels();
    let text = match words.get(1).map(String::as_str) {
        Some("bash") => shells::bash(&all),
        Some("zsh") => shells::zsh(&all),
        Some("fish") => shells::fish(&all),
        Some("-h" | "--help") => format!("{USAGE}\n"),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    crate::print(&text)
}

const USAGE: &str = "Usage: keelson completions bash|zsh|fish\n\n  \
     bash: source <(keelson completions bash)\n  \
     zsh:  keelson completions zsh > a directory of $fpath/_keelson\n  \
     fish: keelson completions fish > ~/.config/fish/completions/keelson.fish";

/// The program, its commands, and their commands.
fn levels() -> Vec<Level> {
    let commands = flags::help::summaries().map(|(name, about)| Choice {
        word: name.to_owned(),
        about: about.to_owned(),
        value: Takes::Nothing,
    });
    let host = flags::all().filter(|flag| matches!(flag.effect, Effect::Works | Effect::Inert(_)));
    let mut all = vec![Level {
        path: String::new(),
        entries: commands.chain(host.map(of_flag)).collect(),
    }];
    all.push(Level {
        path: "completions".to_owned(),
        entries: ["bash", "zsh", "fish"].map(shell).into(),
    });
    for command in super::all() {
        add(&mut all, "", &command);
    }
    all
}

fn shell(name: &str) -> Choice {
    Choice {
        word: name.to_owned(),
        about: format!("For {name}."),
        value: Takes::Nothing,
    }
}

fn of_flag(flag: &flags::Flag) -> Choice {
    Choice {
        word: format!("--{}", flag.name),
        about: flag.doc.lines().next().unwrap_or_default().to_owned(),
        value: match flag.kind {
            Kind::Bool => Takes::Nothing,
            Kind::OneOf(words) => Takes::OneOf(
                words
                    .iter()
                    .filter(|word| !word.is_empty())
                    .map(|word| (*word).into())
                    .collect(),
            ),
            _ => text_or_file(flag.name),
        },
    }
}

/// Adds a command below `path`, and its own commands.
fn add(all: &mut Vec<Level>, path: &str, command: &Command) {
    let path = format!("{path} {}", command.get_name());
    let path = path.trim_start().to_owned();
    let subcommands = command.get_subcommands().map(|one| Choice {
        word: one.get_name().to_owned(),
        about: first_line(one.get_about()),
        value: Takes::Nothing,
    });
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let flags = shown.filter_map(of_argument);
    let entries = subcommands.chain(flags).collect();
    all.push(Level {
        path: path.clone(),
        entries,
    });
    for one in command.get_subcommands() {
        add(all, &path, one);
    }
}

/// The entry of a flag; none for an argument by position.
fn of_argument(arg: &Arg) -> Option<Choice> {
    let name = arg.get_long()?;
    let words: Vec<_> = arg.get_possible_values();
    let words = words
        .iter()
        .map(|word| word.get_name().to_owned())
        .collect::<Vec<_>>();
    Some(Choice {
        word: format!("--{name}"),
        about: first_line(arg.get_help()),
        value: match arg.get_action().takes_values() && !arg.is_require_equals_set() {
            false => Takes::Nothing,
            true if !words.is_empty() => Takes::OneOf(words),
            true => text_or_file(name),
        },
    })
}

fn first_line(about: Option<&clap::builder::StyledStr>) -> String {
    let about = about.map(ToString::to_string).unwrap_or_default();
    about.lines().next().unwrap_or_default().to_owned()
}

fn text_or_file(name: &str) -> Takes {
    let endings = ["-file", "-dir", "cert", "key", "cacert", "log-outputs"];
    match endings.iter().any(|ending| name.ends_with(ending)) {
        true => Takes::File,
        false => Takes::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(all: &'a [Level], path: &str, word: &str) -> &'a Choice {
        let level = all.iter().find(|level| level.path == path).expect(path);
        let mut entries = level.entries.iter();
        entries.find(|entry| entry.word == word).expect(word)
    }

    #[test]
    fn every_command_and_its_flags_are_offered() {
        let all = levels();
        for (name, _) in flags::help::summaries() {
            entry(&all, "", name);
            let has_flags = !["man", "version", "help"].contains(&name);
            let is_level = all.iter().any(|level| level.path == name);
            assert_eq!(is_level, has_flags, "{name}");
        }
        assert_eq!(entry(&all, "", "--data-dir").value, Takes::File);
        assert_eq!(entry(&all, "", "--pre-vote").value, Takes::Nothing);
        let states = ["new", "existing"].map(str::to_owned).to_vec();
        let state = entry(&all, "", "--initial-cluster-state");
        assert_eq!(state.value, Takes::OneOf(states));
        assert_eq!(
            entry(&all, "gateway start", "--endpoints").value,
            Takes::Text
        );
        assert_eq!(entry(&all, "doctor", "--cacert").value, Takes::File);
        entry(&all, "gateway", "start");
    }
}
