//! `--help` and `--version`.

use std::fmt::Write;

use keelson_store::version;

use super::{Effect, Flag, GROUPS, Kind, find};

/// The commands of `main`, each with a summary.
const COMMANDS: [(&str, &str); 17] = [
    (
        "playground",
        "Start a cluster on this machine to try things out.",
    ),
    (
        "discovery",
        "Serve discovery URLs (discovery serve), or make one (discovery new).",
    ),
    (
        "doctor",
        "Examine a cluster: what is wrong, and the command that mends it.",
    ),
    ("top", "Show what the keys of each prefix are used for."),
    ("promote", "Make a proxy's host a member of its cluster."),
    ("replace", "Replace a member whose disk is gone."),
    (
        "import",
        "Make a data directory from that of a stopped etcd.",
    ),
    (
        "follow",
        "Be a live standby of another cluster, at the same revisions.",
    ),
    ("cutover", "Open a standby for writes."),
    (
        "export",
        "Make a data directory of etcd from a member, a snapshot or a cluster.",
    ),
    (
        "util",
        "Show, hash and restore snapshots; check and defragment files.",
    ),
    (
        "gateway",
        "Forward TCP connections to members (gateway start).",
    ),
    (
        "grpc-proxy",
        "Forward gRPC and HTTP requests to members (grpc-proxy start).",
    ),
    ("man", "Write the manual page."),
    (
        "completions",
        "Write what bash, zsh or fish offers at TAB (completions bash).",
    ),
    ("version", "Show the version."),
    (
        "help",
        "Show this page; 'help all' lists every flag, 'help COMMAND' those of a command.",
    ),
];

/// The flags that nearly every host needs.
const MAIN: [&str; 10] = [
    "name",
    "data-dir",
    "listen-client-urls",
    "advertise-client-urls",
    "listen-peer-urls",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "discovery",
    "proxy",
];

/// The heading of flags that have no effect, or are refused.
const WITHOUT_EFFECT: &str = "Without effect, or not supported";

/// The names of all commands, each with its summary.
pub(crate) fn summaries() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.iter().copied()
}

/// The names of all commands.
pub(crate) fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, _)| *name)
}

/// The default help, one page: commands, the main flags, and pointers to the rest. Under the name
/// `etcd` it is the full help, because tools that start `etcd` search it for flags.
pub(crate) fn help(program: &str) -> String {
    if program.starts_with("etcd") {
        return help_all(program);
    }
    let mut text = usage(program);
    text.push_str("\nThe main flags:\n");
    for flag in MAIN.iter().filter_map(|name| find(name)) {
        describe(&mut text, flag);
    }
    text.push_str(ENVIRONMENT);
    let _ = writeln!(
        text,
        "All flags: {program} --help all. The operator's guide: docs/operations.md."
    );
    text
}

/// Every flag, grouped as in etcd's help. Flags that do not work come last.
pub(crate) fn help_all(program: &str) -> String {
    let mut text = usage(program);
    let is_here = |flag: &&Flag| matches!(flag.effect, Effect::Works | Effect::Ignored);
    for group in GROUPS {
        let _ = writeln!(text, "\n{}:", group.title);
        for flag in group.flags.iter().filter(is_here) {
            describe(&mut text, flag);
        }
    }
    let _ = writeln!(text, "\n{WITHOUT_EFFECT}:");
    for flag in super::all().filter(|flag| !is_here(flag)) {
        describe(&mut text, flag);
    }
    text.push_str(ENVIRONMENT);
    text
}

const ENVIRONMENT: &str =
    "\nEach flag can be given as ETCD_* in the environment: ETCD_DATA_DIR for --data-dir.\n";

/// The usage lines of the help.
fn usage(program: &str) -> String {
    let mut text = format!(
        "Usage:\n  \
         {program} [flags]\n    \
         Start a member or a proxy, by the flags and the data directory.\n\n  \
         {program} COMMAND [flags]\n    {program} COMMAND --help lists its flags.\n\n\
         Commands:\n"
    );
    for (name, what) in COMMANDS {
        let _ = writeln!(text, "  {name:<12}{what}");
    }
    text
}

fn describe(text: &mut String, flag: &Flag) {
    let _ = match flag.kind {
        Kind::Count | Kind::Count32 => writeln!(text, "  --{} {}", flag.name, flag.default),
        _ => writeln!(text, "  --{} '{}'", flag.name, flag.default),
    };
    for line in flag.doc.lines() {
        let _ = writeln!(text, "    {line}");
    }
    if let Some(state) = state(flag) {
        let _ = writeln!(text, "    {state}");
    }
}

/// Why the flag does not work, as a sentence.
pub(crate) fn state(flag: &Flag) -> Option<String> {
    match flag.effect {
        Effect::Works | Effect::Ignored => None,
        Effect::Inert(reason) => Some(format!("Has no effect: {reason}.")),
        Effect::Unsupported(remedy) => Some(format!("Not supported yet: {remedy}.")),
    }
}

/// The version. Under the name `etcd` the first line is the one that tools parse; otherwise it is
/// our own.
pub(crate) fn version_text(program: &str) -> String {
    let etcd = format!("etcd Version: {}\n", version::ETCD);
    let keelson = format!("keelson {}\n", version::KEELSON);
    let platform = format!(
        "Rust OS/Arch: {}/{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    if program.starts_with("etcd") {
        format!("{etcd}{keelson}{platform}")
    } else {
        format!("{keelson}{etcd}{platform}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_every_flag_and_says_what_does_nothing() {
        let text = help_all("keelson");
        for flag in super::super::all() {
            assert!(
                text.contains(&format!("  --{} ", flag.name)),
                "--{}",
                flag.name
            );
        }
        let wals = text.find("  --max-wals 5").expect("it is in the help");
        assert!(
            text[wals..]
                .lines()
                .nth(2)
                .expect("a third line")
                .contains("no effect: ")
        );
    }

    #[test]
    fn the_first_page_is_one_and_names_the_commands() {
        let text = help("keelson");
        for name in commands() {
            assert!(text.contains(&format!("\n  {name} ")), "{name}");
        }
        for flag in MAIN {
            assert!(text.contains(&format!("  --{flag} ")), "{flag}");
        }
        assert!(text.lines().count() <= 50, "{}", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= 100));
        assert!(help("etcd").contains("--max-wals"));
    }

    #[test]
    fn what_is_not_here_yet_comes_last() {
        let text = help_all("keelson");
        let (here, later) = text
            .split_once("\nWithout effect, or not supported:\n")
            .expect("a group");
        assert!(!here.contains("Not supported yet") && !here.contains("no effect: "));
        assert!(later.contains("--max-wals") && !later.contains("--data-dir '"));
    }

    #[test]
    fn the_first_line_of_the_version_depends_on_the_name() {
        assert!(version_text("keelson").starts_with("keelson "));
        assert!(version_text("etcd").starts_with("etcd Version: "));
        assert!(version_text("etcd2").starts_with("etcd Version: "));
    }
}
