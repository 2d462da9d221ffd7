//! The scripts of the three shells.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Choice, Level, Takes};

/// The text as one word of a shell, in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Patterns of paths below which there are further words, as ` gateway| gateway start` in quotes.
fn paths(levels: &[Level]) -> String {
    let paths = levels.iter().filter(|level| !level.path.is_empty());
    let paths: Vec<_> = paths
        .map(|level| quoted(&format!(" {}", level.path)))
        .collect();
    paths.join("|")
}

/// The flags of all levels by the value they take. Of words, those that every flag of the name
/// takes.
fn by_value(levels: &[Level]) -> (Vec<&str>, Vec<&str>, BTreeMap<&str, Vec<&str>>) {
    let (mut files, mut texts) = (Vec::new(), Vec::new());
    let mut words: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Choice { word, value, .. } in levels.iter().flat_map(|level| &level.entries) {
        match value {
            Takes::Nothing => {}
            Takes::File => files.push(word.as_str()),
            Takes::Text => texts.push(word.as_str()),
            Takes::OneOf(all) => {
                let all = || all.iter().map(String::as_str);
                words
                    .entry(word.as_str())
                    .and_modify(|both| both.retain(|one| all().any(|other| other == *one)))
                    .or_insert_with(|| all().collect());
            }
        }
    }
    for list in [&mut files, &mut texts] {
        list.sort_unstable();
        list.dedup();
    }
    (files, texts, words)
}

pub(super) fn bash(levels: &[Level]) -> String {
    let (files, texts, words) = by_value(levels);
    let mut text = format!(
        "# bash completion of keelson, from `keelson completions bash`\n\
         _keelson() {{\n    \
         local cur=\"${{COMP_WORDS[COMP_CWORD]}}\" prev=\"${{COMP_WORDS[COMP_CWORD-1]}}\"\n    \
         local at=\"\" word words=\"\"\n    \
         [[ $cur == = ]] && cur=\"\"\n    \
         [[ $prev == = ]] && prev=\"${{COMP_WORDS[COMP_CWORD-2]}}\"\n    \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
         case \"$at $word\" in {}) at=\"$at $word\" ;; esac\n    done\n    \
         case \"$prev\" in\n",
        paths(levels)
    );
    let file_line = "COMPREPLY=($(compgen -f -- \"$cur\")); return ;;";
    let _ = writeln!(text, "        {}) {file_line}", files.join("|"));
    for (flag, all) in words {
        let _ = writeln!(text, "        {flag}) words={} ;;", quoted(&all.join(" ")));
    }
    let _ = writeln!(text, "        {}) return ;;", texts.join("|"));
    text.push_str("        *) case \"$at\" in\n");
    for level in levels {
        let at = match level.path.as_str() {
            "" => String::new(),
            path => format!(" {path}"),
        };
        let all: Vec<_> = level
            .entries
            .iter()
            .map(|entry| entry.word.as_str())
            .collect();
        let all = quoted(&all.join(" "));
        let _ = writeln!(text, "            {}) words={all} ;;", quoted(&at));
    }
    text.push_str(
        "        esac ;;\n    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n\
         complete -F _keelson keelson\n",
    );
    text
}

pub(super) fn zsh(levels: &[Level]) -> String {
    let (files, texts, words) = by_value(levels);
    let mut text = format!(
        "#compdef keelson\n# zsh completion of keelson, from `keelson completions zsh`\n\
         _keelson() {{\n    local at='' word\n    local -a entries\n    \
         for word in ${{words[2,CURRENT-1]}}; do\n        \
         case \"$at $word\" in ({}) at=\"$at $word\" ;; esac\n    done\n    \
         case \"${{words[CURRENT-1]}}\" in\n",
        paths(levels)
    );
    let _ = writeln!(text, "        ({}) _files; return ;;", files.join("|"));
    for (flag, all) in words {
        let _ = writeln!(
            text,
            "        ({flag}) compadd -- {}; return ;;",
            all.join(" ")
        );
    }
    let _ = writeln!(text, "        ({}) return ;;", texts.join("|"));
    text.push_str("    esac\n    case \"$at\" in\n");
    for level in levels {
        let at = match level.path.as_str() {
            "" => String::new(),
            path => format!(" {path}"),
        };
        let _ = writeln!(text, "        ({}) entries=(", quoted(&at));
        for entry in &level.entries {
            let _ = writeln!(
                text,
                "            {}",
                quoted(&format!(
                    "{}:{}",
                    entry.word,
                    entry.about.replace(':', "\\:")
                ))
            );
        }
        text.push_str("        ) ;;\n");
    }
    text.push_str("    esac\n    _describe -o keelson entries\n}\n_keelson \"$@\"\n");
    text
}

pub(super) fn fish(levels: &[Level]) -> String {
    let mut text = "# fish completion of keelson, from `keelson completions fish`\n\
                    complete -c keelson -f\n"
        .to_owned();
    let commands = |path: &str| {
        let level = levels.iter().find(|level| level.path == path);
        let entries = level.map_or(&[][..], |level| &level.entries);
        let words = entries.iter().map(|entry| entry.word.as_str());
        words
            .filter(|word| !word.starts_with('-'))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for level in levels {
        let seen = level.path.split_whitespace();
        let seen = seen.map(|word| format!("__fish_seen_subcommand_from {word}"));
        let below = commands(&level.path);
        let not_below = format!("not __fish_seen_subcommand_from {below}");
        let not_below = (!below.is_empty()).then_some(not_below);
        let condition: Vec<_> = seen.chain(not_below).collect();
        let condition = quoted(&condition.join("; and "));
        for entry in &level.entries {
            let about = quoted(&entry.about);
            let what = match entry.word.strip_prefix("--") {
                Some(flag) => format!("-l {flag}{}", fish_value(&entry.value)),
                None => format!("-a {}", entry.word),
            };
            let _ = writeln!(text, "complete -c keelson -n {condition} {what} -d {about}");
        }
    }
    text
}

fn fish_value(value: &Takes) -> String {
    match value {
        Takes::Nothing => String::new(),
        Takes::Text => " -x".to_owned(),
        Takes::File => " -r -F".to_owned(),
        Takes::OneOf(words) => format!(" -x -a {}", quoted(&words.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::levels;
    use super::*;

    /// What bash offers for a line, whose last word is being written.
    fn offered(script: &str, line: &[&str]) -> Vec<String> {
        let words: Vec<_> = line.iter().map(|word| quoted(word)).collect();
        let run = format!(
            "{script}\nCOMP_WORDS=(keelson {}); COMP_CWORD={}; _keelson; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            line.len()
        );
        let output = Command::new("bash").args(["-c", &run]).output();
        let output = output.expect("bash is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.is_empty(), "{errors}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_commands_flags_and_words() {
        let script = bash(&levels());
        assert_eq!(offered(&script, &["gat"]), ["gateway"]);
        assert_eq!(offered(&script, &["gateway", "st"]), ["start"]);
        assert_eq!(
            offered(&script, &["gateway", "start", "--end"]),
            ["--endpoints"]
        );
        assert_eq!(offered(&script, &["--quota"]), ["--quota-backend-bytes"]);
        assert_eq!(
            offered(&script, &["--initial-cluster-state", "e"]),
            ["existing"]
        );
        assert_eq!(offered(&script, &["--proxy", "=", "re"]), ["readonly"]);
        assert_eq!(offered(&script, &["--name", ""]), Vec::<String>::new());
        assert_eq!(offered(&script, &["--data-dir", "/et"]), ["/etc"]);
    }

    #[test]
    fn zsh_and_fish_have_every_word_quoted() {
        let all = levels();
        let (zsh, fish) = (zsh(&all), fish(&all));
        for entry in all.iter().flat_map(|level| &level.entries) {
            assert!(zsh.contains(&format!("'{}:", entry.word)), "{}", entry.word);
            let word = match entry.word.strip_prefix("--") {
                Some(flag) => format!(" -l {flag} "),
                None => format!(" -a {} ", entry.word),
            };
            assert!(fish.contains(&word), "{word}");
        }
        for line in fish.lines().skip(1) {
            assert!(line.starts_with("complete -c keelson "), "{line}");
            let quotes = line.replace("'\\''", "").matches('\'').count();
            assert!(quotes.is_multiple_of(2), "{line}");
        }
    }
}
