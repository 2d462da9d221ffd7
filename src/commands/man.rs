//! `keelson man`: the manual page keelson(1), made from the flag table.

use std::fmt::Write;
use std::process::ExitCode;

use keelson_store::version;

use crate::flags::{self, Effect, Flag, help};

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    match words.get(1).map(String::as_str) {
        None => crate::print(&page()),
        Some("-h" | "--help") => crate::print(USAGE),
        Some(_) => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

const USAGE: &str = "Usage: keelson man\n\n  \
     keelson man > /usr/local/share/man/man1/keelson.1\n  \
     keelson man | man -l -\n";

/// The page, in the macros of man(7).
fn page() -> String {
    let mut text = format!(
        ".TH KEELSON 1 \"\" \"keelson {}\" \"User Commands\"\n\
         .SH NAME\nkeelson \\- a replicated key\\-value store, a drop\\-in for etcd\n\
         .SH SYNOPSIS\n.B keelson\n[\\fIFLAGS\\fR]\n.br\n.B keelson\n\\fICOMMAND\\fR \
         [\\fIFLAGS\\fR]\n\
         .SH DESCRIPTION\nWithout a command it starts a member or a proxy, by its flags and its \
         data directory. Under the name\n.B etcd\nit is the same.\n",
        version::KEELSON
    );
    text.push_str(
        ".SH COMMANDS\n\\fBkeelson\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR lists its flags.\n",
    );
    for (name, about) in help::summaries() {
        let _ = write!(text, ".TP\n.B {}\n{}\n", escaped(name), escaped(about));
    }
    text.push_str(
        ".SH FLAGS\nOne dash or two; a value after a blank or =, that of a bool only after =.\n\
         Each flag can be given in the environment, as\n.B ETCD_DATA_DIR\nfor\n\
         .BR \\-\\-data\\-dir ,\nor in the file of\n.BR \\-\\-config\\-file .\n",
    );
    let works = |flag: &&Flag| flag.effect == Effect::Works;
    for group in flags::GROUPS {
        if !group.flags.iter().any(|flag| works(&flag)) {
            continue;
        }
        let _ = writeln!(text, ".SS {}", escaped(group.title));
        group
            .flags
            .iter()
            .filter(works)
            .for_each(|flag| describe(&mut text, flag));
    }
    text.push_str(".SS Without effect, or refused\n");
    let others = flags::all().filter(|flag| !works(flag));
    others.for_each(|flag| describe(&mut text, flag));
    text.push_str(END);
    text
}

const END: &str = "\
.SH ENVIRONMENT
.TP
.B ETCD_*
The flags. A flag and its variable together are refused.
.TP
.BR ETCD_CONFIG_FILE \", \" KEELSON_CONFIG_FILE
.BR \\-\\-config\\-file .
.TP
.B DEIS_NUM_INSTANCES
The size of a cluster that is found by a discovery URL.
.SH SIGNALS
SIGTERM and SIGINT stop cleanly within 8 s, a second one at once. SIGHUP opens log files anew and
reads files of TLS again; without any it ends the process.
.SH EXIT STATUS
0 for success and for a member that was removed, 1 for an error with a message, 2 for a command line
that cannot be parsed; otherwise the signal.
.SH SEE ALSO
.BR etcd (1),
.BR etcdctl (1)
";

fn describe(text: &mut String, flag: &Flag) {
    let default = match flag.default {
        "" => String::new(),
        default => format!(" \\fI{}\\fR", escaped(default)),
    };
    let _ = write!(text, ".TP\n\\fB\\-\\-{}\\fR{default}\n", escaped(flag.name));
    for line in flag.doc.lines() {
        let _ = writeln!(text, "{}", escaped(line));
    }
    if let Some(state) = help::state(flag) {
        let _ = writeln!(text, "{}", escaped(&state));
    }
}

/// Text without meaning for roff: no hyphens that a line may break at, no control lines.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_flag_and_command() {
        let page = page();
        for flag in flags::all() {
            let name = format!("\\fB\\-\\-{}\\fR", escaped(flag.name));
            assert!(page.contains(&name), "{name}");
        }
        for name in help::commands() {
            assert!(
                page.contains(&format!(".TP\n.B {}\n", escaped(name))),
                "{name}"
            );
        }
        assert_eq!(escaped(".a-b\\"), "\\&.a\\-b\\e");
    }
}
