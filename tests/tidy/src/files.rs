//! Files are opened in a few places only, so that what must be durable goes through them.

use syn::visit::{self, Visit};
use syn::{Item, Macro, UseTree};

use crate::source::{Source, is_for_tests};

/// Whether code outside of tests names `std::fs` or `tokio::fs`.
pub fn touches_files(source: &Source, file: &syn::File) -> bool {
    let mut seen = Seen(false);
    if !source.is_test() {
        seen.visit_file(file);
    }
    seen.0
}

struct Seen(bool);

impl Seen {
    fn uses(&mut self, tree: &UseTree, crate_name: Option<&str>) {
        match tree {
            UseTree::Path(path) => {
                let name = path.ident.to_string();
                match crate_name {
                    None => self.uses(&path.tree, Some(&name)),
                    Some(of) => self.0 |= is_fs(of, &name),
                }
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.uses(tree, crate_name);
                }
            }
            UseTree::Name(name) => {
                self.0 |= is_fs(crate_name.unwrap_or(""), &name.ident.to_string())
            }
            UseTree::Rename(name) => {
                self.0 |= is_fs(crate_name.unwrap_or(""), &name.ident.to_string())
            }
            UseTree::Glob(_) => self.0 |= matches!(crate_name, Some("std" | "tokio")),
        }
    }
}

fn is_fs(crate_name: &str, module: &str) -> bool {
    matches!(crate_name, "std" | "tokio") && module == "fs"
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(inner) if is_for_tests(&inner.attrs) => {}
            Item::Fn(inner) if is_for_tests(&inner.attrs) => {}
            Item::Use(inner) if is_for_tests(&inner.attrs) => {}
            Item::Impl(inner) if is_for_tests(&inner.attrs) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_use_tree(&mut self, tree: &'ast UseTree) {
        self.uses(tree, None);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|one| one.ident.to_string())
            .collect();
        self.0 |= names.windows(2).any(|pair| is_fs(&pair[0], &pair[1]));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let tokens = call.tokens.to_string();
        self.0 |= tokens.contains("std :: fs ::") || tokens.contains("tokio :: fs ::");
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_files_is_found() {
        let touches = |path: &str, text: &str| {
            let source = Source::example(path, text);
            touches_files(&source, &source.parsed())
        };
        for bad in [
            "use std::fs;",
            "use std::fs::File;",
            "use std::{fs, io};",
            "use std::{io, fs::{self, File}};",
            "use std::fs as disk;",
            "use tokio::fs;",
            "fn f() { let _ = std::fs::read(\"x\"); }",
            "fn f() -> Option<std::fs::File> { None }",
            "fn f() { tokio::select! { _ = tokio::fs::read(\"x\") => {} } }",
        ] {
            assert!(touches("proxy/src/a.rs", bad), "{bad}");
        }
        for good in [
            "use std::io;",
            "//! `std::fs` is not for us.\nuse rustix::fs;",
            "#[cfg(test)] mod tests { use std::fs; }",
            "fn f() { println!(\"std::fs\"); }",
        ] {
            assert!(!touches("proxy/src/a.rs", good), "{good}");
        }
        assert!(!touches("proxy/tests/a.rs", "use std::fs;"));
    }
}
