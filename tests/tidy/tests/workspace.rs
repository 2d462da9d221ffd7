//! The rules, held over the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use keelson_tidy::errors::Errors;
use keelson_tidy::exceptions as except;
use keelson_tidy::flags::Declared;
use keelson_tidy::links::Document;
use keelson_tidy::names::Names;
use keelson_tidy::source::{self, Source, read};
use keelson_tidy::{columns, dependencies, files, functions, headers, links, words};

/// What the rules find that need a syntax tree: each file is parsed once.
#[derive(Default)]
struct Found {
    long_functions: Vec<String>,
    files: Vec<String>,
    names: Names,
    errors: Errors,
    declared: Declared,
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(source::sources);

static FOUND: LazyLock<Found> = LazyLock::new(|| {
    let mut found = Found::default();
    for source in &*SOURCES {
        let file = source.parsed();
        for (name, _, _) in functions::too_long(&file) {
            found
                .long_functions
                .push(format!("{}: {name}", source.path));
        }
        if files::touches_files(source, &file) {
            found.files.push(source.path.clone());
        }
        found.names.add(source, &file);
        found.errors.add(source, &file);
        found.declared.add(&file);
    }
    found
});

/// Fails with the rule and everything that breaks it.
#[track_caller]
fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Fails with what breaks the rule and is not an exception, and with exceptions that break nothing.
#[track_caller]
fn only(rule: &str, found: impl IntoIterator<Item = String>, exceptions: &[&str]) {
    let found: BTreeSet<String> = found.into_iter().collect();
    let exceptions: BTreeSet<String> = exceptions.iter().map(|one| (*one).to_owned()).collect();
    let new: Vec<String> = found.difference(&exceptions).cloned().collect();
    none(rule, &new);
    let stale: Vec<String> = exceptions.difference(&found).cloned().collect();
    none(
        &format!("not needed among the exceptions from: {rule}"),
        &stale,
    );
}

/// The paths of the sources of which `bad` holds.
fn sources_that(bad: impl Fn(&Source) -> bool) -> Vec<String> {
    let bad = SOURCES.iter().filter(|source| bad(source));
    bad.map(|source| source.path.clone()).collect()
}

fn documents() -> Vec<(String, String)> {
    let paths = source::files("md").into_iter();
    paths.map(|path| (path.clone(), read(&path))).collect()
}

#[test]
fn comments_do_not_personify() {
    let mut of: BTreeMap<&str, (Vec<String>, usize)> = BTreeMap::new();
    for source in &*SOURCES {
        let (lines, comments) = words::personified(&source.text);
        let (all, sum) = of.entry(&source.package).or_default();
        all.extend(lines.iter().map(|line| format!("{}:{line}", source.path)));
        *sum += comments;
    }
    let mut found = Vec::new();
    for (package, (lines, comments)) in of {
        if words::is_too_much(lines.len(), comments, words::PERMILLE_MAX) {
            let share = format!("{} of {comments} comment lines", lines.len());
            found.push(format!("{package}: {share}: {}", lines.join(" ")));
        }
    }
    none("comments with words for persons (words::BANNED)", &found);
}

#[test]
fn lines_are_at_most_100_columns() {
    let mut found = Vec::new();
    for source in &*SOURCES {
        let wide = columns::too_wide(&source.text).into_iter();
        found.extend(wide.map(|line| format!("{}:{line}", source.path)));
    }
    none("lines of more than 100 columns", &found);
}

#[test]
fn files_begin_with_their_purpose() {
    let found = sources_that(|source| !headers::begins_with_its_purpose(&source.text));
    none("files that do not begin with a `//!` line", &found);
}

#[test]
fn files_are_at_most_400_lines() {
    let found = sources_that(|source| headers::is_too_long(&source.text, headers::LINES_MAX));
    only("files of more than 400 lines", found, except::LONG_FILES);
}

#[test]
fn functions_are_at_most_70_lines() {
    let found = FOUND.long_functions.clone();
    only(
        "functions of more than 70 lines",
        found,
        except::LONG_FUNCTIONS,
    );
}

#[test]
fn files_are_opened_where_they_may_be() {
    only(
        "sources that name std::fs or tokio::fs",
        FOUND.files.clone(),
        except::FILES,
    );
}

#[test]
fn type_names_are_unique_in_a_crate() {
    let repeated = FOUND.names.repeated().into_iter();
    let found = repeated.map(|((package, name), _)| format!("{package}: {name}"));
    only(
        "type names that stand twice in a crate",
        found,
        except::REPEATED_NAMES,
    );
}

#[test]
fn error_variants_are_constructed() {
    none(
        "error variants that nothing constructs",
        &FOUND.errors.dead(),
    );
}

#[test]
fn documents_name_commands_and_flags_that_exist() {
    let declared = &FOUND.declared;
    let read = (declared.commands.len(), declared.flags.len());
    assert!(
        5 <= read.0 && 150 <= read.1,
        "commands and flags read: {read:?}"
    );
    let mut found = Vec::new();
    for (path, text) in documents() {
        let undeclared = declared.undeclared(&text, except::FOREIGN_FLAGS);
        found.extend(
            undeclared
                .iter()
                .map(|(line, name)| format!("{path}:{line}: {name}")),
        );
    }
    none(
        "commands and flags in documents that no program has",
        &found,
    );
}

#[test]
fn links_and_paths_in_documents_resolve() {
    let root = source::root();
    let text = |path: &str| match path.ends_with(".md") {
        true => root.join(path).is_file().then(|| read(path)),
        false => root.join(path).exists().then(String::new),
    };
    let tops = [
        "src",
        "store",
        "proxy",
        "discovery",
        "proto",
        "tests",
        "benches",
        "fuzz",
        "docs",
    ];
    let mut found = Vec::new();
    for (path, content) in documents() {
        let mut nowhere = links::broken(&path, &content, text);
        // The change log names files of its time.
        if path != "CHANGELOG.md" {
            let paths = Document::of(&content).paths(&tops).into_iter();
            nowhere.extend(paths.filter(|(_, path)| !root.join(path.trim()).exists()));
        }
        found.extend(
            nowhere
                .iter()
                .map(|(line, link)| format!("{path}:{line}: {link}")),
        );
    }
    none("links and paths in documents that lead nowhere", &found);
}

#[test]
fn dependencies_are_used() {
    let mut found = Vec::new();
    for manifest in source::files("toml")
        .iter()
        .filter(|path| path.ends_with("Cargo.toml"))
    {
        let package = match manifest
            .trim_end_matches("Cargo.toml")
            .trim_end_matches('/')
        {
            "" => ".",
            package => package,
        };
        let own: Vec<&Source> = SOURCES
            .iter()
            .filter(|source| source.package == package)
            .collect();
        let unused = dependencies::unused(&read(manifest), &own);
        found.extend(unused.into_iter().map(|name| format!("{package}: {name}")));
    }
    only(
        "dependencies that no source names",
        found,
        except::UNNAMED_DEPENDENCIES,
    );
}
