//! The workspace's files, and what a rule has to find out about a Rust file.

use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Meta};

/// A Rust file of the workspace.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace, with `/` between its parts.
    pub path: String,
    /// The directory of the crate that it belongs to; `.` for the root package.
    pub package: String,
    /// The file as it is.
    pub text: String,
}

impl Source {
    /// A source for a rule's unit test.
    pub fn example(path: &str, text: &str) -> Source {
        let package = path.split('/').next().unwrap_or_default();
        Source {
            path: path.to_owned(),
            package: package.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The file as a syntax tree.
    ///
    /// # Panics
    ///
    /// If it is not Rust.
    pub fn parsed(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }

    /// Whether the file is not part of what is shipped: tests, benchmarks, fuzz targets and
    /// examples, and the crates that hold nothing else.
    pub fn is_test(&self) -> bool {
        ["tests", "benches", "fuzz", "tests/tidy"].contains(&self.package.as_str())
            || self.is_for_tests()
    }

    /// Whether cargo builds the file, by its place in its crate, for tests, benchmarks or examples.
    pub fn is_for_tests(&self) -> bool {
        let inner = self.path.strip_prefix(&self.package).unwrap_or(&self.path);
        let for_tests = |part| ["tests", "benches", "examples", "tests.rs"].contains(&part);
        inner.split('/').any(for_tests)
    }
}

/// The workspace's directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file of the workspace whose name ends with `.ext`, relative to its directory and sorted.
/// Hidden directories, build directories and recorded data are left out.
///
/// # Panics
///
/// If a directory cannot be read.
pub fn files(ext: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root(), "", ext, &mut found);
    found.sort();
    found
}

fn collect(dir: &Path, prefix: &str, ext: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory of the workspace") {
        let entry = entry.expect("an entry of the directory");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let is_dir = entry.file_type().expect("its type").is_dir();
        if is_dir {
            // cargo puts this tag into its target directory, which may have any name.
            let is_cache = entry.path().join("CACHEDIR.TAG").exists() || name == "target";
            if is_cache || name.starts_with('.') || path == "tests/data" {
                continue;
            }
            collect(&entry.path(), &format!("{path}/"), ext, found);
        } else if Path::new(&name).extension().is_some_and(|it| it == ext) {
            found.push(path);
        }
    }
}

/// The text of a file of the workspace.
///
/// # Panics
///
/// If it cannot be read.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the workspace.
///
/// # Panics
///
/// If a file cannot be read.
pub fn sources() -> Vec<Source> {
    let manifests = files("toml");
    let packages: Vec<&str> = manifests
        .iter()
        .filter_map(|path| path.strip_suffix("Cargo.toml"))
        .map(|dir| dir.trim_end_matches('/'))
        .collect();
    let of = |path: &str| {
        let within = |dir: &&&str| {
            path.strip_prefix(**dir)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let longest = packages.iter().filter(within).max_by_key(|dir| dir.len());
        longest.map_or(".", |dir| dir).to_owned()
    };
    let source = |path: String| Source {
        package: of(&path),
        text: read(&path),
        path,
    };
    files("rs").into_iter().map(source).collect()
}

/// Whether an item is compiled for tests only.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => {
            let condition = list.tokens.to_string();
            list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all (test"))
        }
        Meta::Path(path) => path.is_ident("test"),
        Meta::NameValue(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_nearest_package() {
        let sources = sources();
        let package = |path: &str| {
            let found = sources.iter().find(|source| source.path == path);
            found.map(|source| source.package.as_str())
        };
        assert_eq!(package("src/main.rs"), Some("."));
        assert_eq!(package("tests/src/lib.rs"), Some("tests"));
        assert_eq!(package("tests/tidy/src/lib.rs"), Some("tests/tidy"));
        assert!(
            sources
                .iter()
                .all(|source| !source.path.contains("target/"))
        );
    }

    #[test]
    fn items_for_tests_are_found() {
        let of = |text: &str| is_for_tests(&syn::parse_str::<syn::ItemMod>(text).unwrap().attrs);
        assert!(of("#[cfg(test)] mod tests {}"));
        assert!(of("#[cfg(all(test, unix))] mod tests {}"));
        assert!(!of("#[cfg(unix)] mod os {}"));
        assert!(!of("#[cfg(not(test))] mod os {}"));
    }
}
