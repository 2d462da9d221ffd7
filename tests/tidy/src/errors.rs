//! No public error has a variant that nothing constructs: it would be handled in vain.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Arm, Expr, Item, ItemEnum, ItemImpl, Macro, Pat, Type, UseTree, Visibility};

use crate::source::{Source, is_for_tests};

/// The public errors of all crates, and what their code constructs.
#[derive(Debug, Default)]
pub struct Errors {
    declared: Vec<(String, String, Vec<String>)>,
    constructed: Constructed,
}

impl Errors {
    /// Adds what a source declares and constructs, outside of tests.
    pub fn add(&mut self, source: &Source, file: &syn::File) {
        if !source.is_test() {
            self.constructed.package.clone_from(&source.package);
            self.constructed.imported.clear();
            self.constructed.import(&file.items);
            self.constructed.visit_file(file);
            public_errors(&file.items, &source.package, &mut self.declared);
        }
    }

    /// The variants, as `crate: Enum::Variant`, that are only ever matched.
    pub fn dead(&self) -> Vec<String> {
        let mut dead = Vec::new();
        for (package, name, variants) in &self.declared {
            let constructs = |variant: &&String| !self.has(package, name, variant);
            let unused = variants.iter().filter(constructs);
            dead.extend(unused.map(|variant| format!("{package}: {name}::{variant}")));
        }
        dead
    }

    /// Whether an expression constructs the variant. Several crates have an enum `Error`: in its
    /// own crate its name is enough, in one that has such an enum itself a module must stand before
    /// it.
    fn has(&self, package: &str, name: &str, variant: &str) -> bool {
        self.constructed.seen.iter().any(|(at, before, of, what)| {
            let has_one = self
                .declared
                .iter()
                .any(|(package, own, _)| package == at && own == name);
            let means_it = at == package || before.is_some() || !has_one;
            of == name && what == variant && means_it
        })
    }
}

/// The public enums among the items that are errors by their name or by what they derive.
fn public_errors(items: &[Item], package: &str, found: &mut Vec<(String, String, Vec<String>)>) {
    for item in items {
        match item {
            Item::Enum(item) if is_public_error(item) => {
                let variants = item.variants.iter().filter(|variant| !has_from(variant));
                let variants = variants.map(|variant| variant.ident.to_string()).collect();
                found.push((package.to_owned(), item.ident.to_string(), variants));
            }
            Item::Mod(item) if !is_for_tests(&item.attrs) => {
                let inner = item.content.as_ref().map_or(&[][..], |(_, items)| items);
                public_errors(inner, package, found);
            }
            _ => {}
        }
    }
}

fn is_public_error(item: &ItemEnum) -> bool {
    let derives = item.attrs.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        list.is_ok_and(|list| {
            list.path.is_ident("derive") && list.tokens.to_string().contains("Error")
        })
    });
    let named = ["Error", "Refusal"]
        .iter()
        .any(|end| item.ident.to_string().ends_with(end));
    matches!(item.vis, Visibility::Public(_)) && (derives || named)
}

/// `#[from]` constructs a variant, through `?`.
fn has_from(variant: &syn::Variant) -> bool {
    let mut attributes = variant.fields.iter().flat_map(|field| &field.attrs);
    attributes.any(|attribute| attribute.path().is_ident("from"))
}

/// What expressions name: the crate, the module before the enum, the enum, and the variant.
#[derive(Debug, Default)]
struct Constructed {
    package: String,
    /// Of the file: enums and their variants that `use` brings into scope, `*` for all of them.
    imported: Vec<(String, String)>,
    of: Option<String>,
    seen: BTreeSet<(String, Option<String>, String, String)>,
}

impl Constructed {
    fn import(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Use(item) = item {
                self.import_tree(&item.tree, "");
            }
        }
    }

    fn import_tree(&mut self, tree: &UseTree, parent: &str) {
        let variant = match tree {
            UseTree::Path(path) => return self.import_tree(&path.tree, &path.ident.to_string()),
            UseTree::Group(group) => {
                return group
                    .items
                    .iter()
                    .for_each(|tree| self.import_tree(tree, parent));
            }
            UseTree::Name(name) => name.ident.to_string(),
            UseTree::Glob(_) => "*".to_owned(),
            UseTree::Rename(_) => return,
        };
        if parent.starts_with(char::is_uppercase) {
            self.imported.push((parent.to_owned(), variant));
        }
    }

    fn note(&mut self, names: &[String]) {
        let [before @ .., of, variant] = names else {
            if let [variant] = names {
                let brings = |(_, one): &&(String, String)| one == variant || one == "*";
                for (of, _) in self.imported.iter().filter(brings) {
                    self.seen
                        .insert((self.package.clone(), None, of.clone(), variant.clone()));
                }
            }
            return;
        };
        let of = match (of.as_str(), &self.of) {
            ("Self", Some(of)) => of.clone(),
            _ => of.clone(),
        };
        let before = before.last().cloned();
        self.seen
            .insert((self.package.clone(), before, of, variant.clone()));
    }

    /// Macros are not parsed: in them, every path counts.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut names: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note(&names);
                        names.clear();
                    }
                    names.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note_tokens(group.stream());
                    colons = 0;
                }
                _ => colons = 0,
            }
        }
        self.note(&names);
    }
}

impl<'ast> Visit<'ast> for Constructed {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(inner) if is_for_tests(&inner.attrs) => {}
            Item::Fn(inner) if is_for_tests(&inner.attrs) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let before = self.of.take();
        if let Type::Path(path) = &*item.self_ty {
            self.of = path
                .path
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
        }
        visit::visit_item_impl(self, item);
        self.of = before;
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.visit_expr(guard);
        }
        self.visit_expr(&arm.body);
    }

    fn visit_pat(&mut self, _: &'ast Pat) {}

    fn visit_expr(&mut self, expr: &'ast Expr) {
        let path = match expr {
            Expr::Path(path) => Some(&path.path),
            Expr::Struct(of) => Some(&of.path),
            // A comparison constructs a variant only to look for it.
            Expr::Binary(binary) if matches!(binary.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) => {
                return;
            }
            _ => None,
        };
        if let Some(path) = path {
            let names: Vec<_> = path
                .segments
                .iter()
                .map(|one| one.ident.to_string())
                .collect();
            self.note(&names);
        }
        visit::visit_expr(self, expr);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = call
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string());
        if name.is_none_or(|name| name != "matches" && !name.contains("assert")) {
            self.note_tokens(call.tokens.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: &str =
        "#[derive(Debug)] pub enum FindError { A, B(u8), C { x: u8 }, D(#[from] E) }";

    fn dead(sources: &[Source]) -> Vec<String> {
        let mut errors = Errors::default();
        for source in sources {
            errors.add(source, &source.parsed());
        }
        errors.dead()
    }

    fn dead_with(code: &str) -> Vec<String> {
        let text = format!("{ERROR}\n{code}");
        dead(&[Source::example("proxy/src/a.rs", &text)])
    }

    #[test]
    fn variants_that_are_only_matched_are_found() {
        let all = [
            "proxy: FindError::A",
            "proxy: FindError::B",
            "proxy: FindError::C",
        ];
        assert_eq!(dead_with(""), all);
        let matched =
            "fn f(e: FindError) -> u8 { match e { FindError::A => 1, FindError::B(x) => x,
            FindError::C { x } => x, FindError::D(_) => 0 } }
            fn g(e: &FindError) -> bool { matches!(e, FindError::A) || *e == FindError::A }
            fn h(e: FindError) { if let FindError::B(_) = e {} }
            #[cfg(test)] mod tests { fn t() -> FindError { FindError::A } }";
        assert_eq!(dead_with(matched), all);
    }

    #[test]
    fn every_way_to_construct_counts() {
        let code = "fn f() -> Result<(), FindError> { Err(FindError::A) }
            fn g() -> Vec<FindError> { vec![FindError::B(1)] }
            impl FindError { fn new() -> Self { Self::C { x: 1 } } }";
        assert!(dead_with(code).is_empty());
        let named = "use FindError::{A, B}; fn f() -> FindError { if true { A } else { B(1) } }";
        assert_eq!(dead_with(named), ["proxy: FindError::C"]);
        let all = "mod m { use super::FindError::*; } use FindError::*; fn f() -> FindError { A }";
        assert_eq!(
            dead_with(all),
            ["proxy: FindError::B", "proxy: FindError::C"]
        );
        let mapped = "fn f(r: Result<u8, u8>) -> Result<u8, FindError> { r.map_err(FindError::B) }";
        assert_eq!(
            dead_with(mapped),
            ["proxy: FindError::A", "proxy: FindError::C"]
        );
    }

    #[test]
    fn errors_of_one_name_in_two_crates_are_two() {
        let core = Source::example("core/src/e.rs", "pub enum Error { A }");
        let store = |code: &str| {
            let text = format!("pub enum Error {{ A }} {code}");
            Source::example("store/src/e.rs", &text)
        };
        let unnamed = dead(&[core, store("fn f() -> Error { Error::A }")]);
        assert_eq!(unnamed, ["core: Error::A"]);
    }
}
