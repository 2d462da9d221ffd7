//! Functions are at most [`LINES_MAX`] lines long, from `fn` to the closing brace.

use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn};

/// The most lines of a function.
pub const LINES_MAX: usize = 70;

/// The functions that are longer, with their first line and their length.
pub fn too_long(file: &syn::File) -> Vec<(String, usize, usize)> {
    let mut found = Functions(Vec::new());
    found.visit_file(file);
    found.0.retain(|(_, _, lines)| LINES_MAX < *lines);
    found.0
}

struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn note(&mut self, signature: &Signature, block: &Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        let name = signature.ident.to_string();
        self.0.push((name, first, last + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, usize, usize)> {
        too_long(&syn::parse_file(text).unwrap())
    }

    #[test]
    fn long_functions_are_found_wherever_they_stand() {
        let of = |lines: usize| format!("fn long() {{{}}}\n", "\n".repeat(lines - 1));
        assert!(found(&of(70)).is_empty());
        assert_eq!(found(&of(71)), [("long".to_owned(), 1, 71)]);
        for around in ["impl X", "trait X", "mod x", "fn outer()"] {
            let text = format!("/// Text.\n{around} {{\n{}}}\n", of(71));
            let long = found(&text);
            assert!(
                long.contains(&("long".to_owned(), 3, 71)),
                "{around}: {long:?}"
            );
        }
    }

    #[test]
    fn comments_and_attributes_before_a_function_are_not_counted() {
        let text = format!("{}#[inline]\nfn short() {{\n}}\n", "/// Text.\n".repeat(90));
        assert!(found(&text).is_empty());
    }
}
