//! No type name stands twice in one crate: a search for it finds one meaning.

use std::collections::BTreeMap;

use syn::Item;

use crate::source::{Source, is_for_tests};

/// The types of every crate, outside of tests.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<(String, String), Vec<String>>);

impl Names {
    /// Adds the types that a source declares.
    pub fn add(&mut self, source: &Source, file: &syn::File) {
        if source.is_test() {
            return;
        }
        for name in types(&file.items) {
            let files = self.0.entry((source.package.clone(), name)).or_default();
            files.push(source.path.clone());
        }
    }

    /// The names that stand more than once in a crate: the crate and the name, with the files.
    pub fn repeated(&self) -> Vec<(&(String, String), &Vec<String>)> {
        self.0.iter().filter(|(_, files)| 1 < files.len()).collect()
    }
}

/// The types that the items declare, those of inner modules as well.
fn types(items: &[Item]) -> Vec<String> {
    let mut names = Vec::new();
    for item in items {
        match item {
            Item::Struct(item) if !is_for_tests(&item.attrs) => names.push(item.ident.to_string()),
            Item::Enum(item) if !is_for_tests(&item.attrs) => names.push(item.ident.to_string()),
            Item::Union(item) if !is_for_tests(&item.attrs) => names.push(item.ident.to_string()),
            Item::Trait(item) if !is_for_tests(&item.attrs) => names.push(item.ident.to_string()),
            Item::Type(item) if !is_for_tests(&item.attrs) => names.push(item.ident.to_string()),
            Item::Mod(item) if !is_for_tests(&item.attrs) => {
                let inner = item.content.as_ref().map_or(&[][..], |(_, items)| items);
                names.extend(types(inner));
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_in_a_crate_is_found() {
        let sources = [
            Source::example(
                "proxy/src/a.rs",
                "struct Place; enum Way {} mod m { trait Kind {} }",
            ),
            Source::example(
                "proxy/src/b.rs",
                "type Kind = u8; #[cfg(test)] mod t { struct Way; }",
            ),
            Source::example("proxy/src/tests/c.rs", "struct Place;"),
            Source::example("store/src/d.rs", "struct Place;"),
        ];
        let mut names = Names::default();
        for source in &sources {
            names.add(source, &source.parsed());
        }
        let kind = ("proxy".to_owned(), "Kind".to_owned());
        let files = vec!["proxy/src/a.rs".to_owned(), "proxy/src/b.rs".to_owned()];
        assert_eq!(names.repeated(), [(&kind, &files)]);
    }
}
