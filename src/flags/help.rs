//! `--help` and `--version`.

use std::fmt::Write;

use keelson_store::version;

use super::{Effect, Flag, GROUPS, Kind};

/// The whole help, laid out as etcd's.
pub(crate) fn help(program: &str) -> String {
    let mut text = usage(program);
    for group in GROUPS {
        let _ = writeln!(text, "\n{}:", group.title);
        for flag in group.flags {
            describe(&mut text, flag);
        }
    }
    text.push_str("\nEach flag can be given as ETCD_* in the environment: ETCD_DATA_DIR for ");
    text.push_str("--data-dir.\n");
    text
}

/// The first lines of the help.
pub(crate) fn usage(program: &str) -> String {
    format!(
        "Usage:\n\n  \
         {program} [flags]\n    Start a member.\n\n  \
         {program} playground [--members N] [--base-port P] [--data-dir D]\n    \
         Start a cluster on this machine to try things out.\n\n  \
         {program} --version\n    Show the version.\n\n  \
         {program} -h | --help\n    Show this help.\n\n"
    )
}

fn describe(text: &mut String, flag: &Flag) {
    let _ = match flag.kind {
        Kind::Count | Kind::Count32 => writeln!(text, "  --{} {}", flag.name, flag.default),
        _ => writeln!(text, "  --{} '{}'", flag.name, flag.default),
    };
    for line in flag.doc.lines() {
        let _ = writeln!(text, "    {line}");
    }
    match flag.effect {
        Effect::Works | Effect::Ignored => {}
        Effect::Inert => text.push_str("    Accepted; has no effect yet.\n"),
        Effect::Unsupported(remedy) => {
            let _ = writeln!(text, "    Not supported yet: {remedy}.");
        }
    }
}

/// Under the name `etcd` the first line is the one that tools parse; otherwise it is our own.
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
        let text = help("keelson");
        for flag in super::super::all() {
            assert!(
                text.contains(&format!("  --{} ", flag.name)),
                "--{}",
                flag.name
            );
        }
        let wals = text.find("  --max-wals 5").expect("it is there");
        assert!(
            text[wals..]
                .lines()
                .nth(2)
                .expect("a third line")
                .contains("no effect yet")
        );
    }

    #[test]
    fn the_first_line_of_the_version_depends_on_the_name() {
        assert!(version_text("keelson").starts_with("keelson "));
        assert!(version_text("etcd").starts_with("etcd Version: "));
        assert!(version_text("etcd2").starts_with("etcd Version: "));
    }
}
