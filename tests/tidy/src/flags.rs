//! The commands and flags that the documents name exist in the programs.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, Field, ItemConst, Lit, Macro};

use crate::links::Document;

/// What the sources of our programs declare.
#[derive(Debug, Default)]
pub struct Declared {
    /// `keelson COMMAND`.
    pub commands: BTreeSet<String>,
    /// `--flag`, of any of our programs.
    pub flags: BTreeSet<String>,
}

impl Declared {
    /// Adds what a file declares: entries of a flag table
    /// (`group! { NAME, "title", "flag", ... }`), clap's `#[arg(long)]`, and the table `COMMANDS`.
    pub fn add(&mut self, file: &syn::File) {
        self.visit_file(file);
    }

    /// The names of flags and commands in the document that are not declared, nor in `foreign`.
    pub fn undeclared(&self, text: &str, foreign: &[&str]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, code) in Document::of(text).code {
            let words =
                code.split(|char: char| char.is_whitespace() || "\"',;()=[]|".contains(char));
            for flag in words
                .filter_map(|word| word.strip_prefix("--"))
                .filter(|flag| is_name(flag))
            {
                if !self.flags.contains(flag) && !foreign.contains(&flag) {
                    found.push((number, format!("--{flag}")));
                }
            }
            if let Some(command) = command(&code)
                && !self.commands.contains(command)
            {
                found.push((number, format!("keelson {command}")));
            }
        }
        found
    }
}

/// `gateway` in `keelson gateway start`; none where `keelson` is not the program that is run.
fn command(code: &str) -> Option<&str> {
    let mut words = code
        .split_whitespace()
        .skip_while(|word| word.contains('=') || *word == "$");
    let program = words.next()?;
    let is_ours = program == "keelson" || program.ends_with("/keelson");
    words.next().filter(|word| is_ours && is_name(word))
}

fn is_name(word: &str) -> bool {
    let plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    word.starts_with(|char: char| char.is_ascii_lowercase()) && word.chars().all(plain)
}

impl<'ast> Visit<'ast> for Declared {
    fn visit_field(&mut self, field: &'ast Field) {
        for attribute in field
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("arg"))
        {
            let name = field
                .ident
                .as_ref()
                .map(|name| name.to_string().replace('_', "-"));
            if let Ok(list) = attribute.meta.require_list() {
                self.flags.extend(long(list.tokens.clone(), name));
            }
        }
        visit::visit_field(self, field);
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        if item.ident == "COMMANDS" {
            let mut firsts = Firsts(Vec::new());
            firsts.visit_expr(&item.expr);
            self.commands.extend(firsts.0);
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        if call.path.is_ident("group") {
            self.flags.extend(entries(call.tokens.clone()));
        }
    }
}

/// The first literals of the tuples within an expression.
struct Firsts(Vec<String>);

impl<'ast> Visit<'ast> for Firsts {
    fn visit_expr_tuple(&mut self, tuple: &'ast syn::ExprTuple) {
        if let Some(Expr::Lit(literal)) = tuple.elems.first()
            && let Lit::Str(text) = &literal.lit
        {
            self.0.push(text.value());
        }
    }
}

/// The name in `long` or `long = "name"`, and those in `alias = "name"`.
fn long(tokens: TokenStream, field: Option<String>) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let word = token.to_string();
        let begins = at == 0 || tokens[at - 1].to_string() == ",";
        if !begins || !["long", "alias", "visible_alias"].contains(&word.as_str()) {
            continue;
        }
        let value = match tokens.get(at + 1).map(ToString::to_string).as_deref() {
            Some("=") => tokens
                .get(at + 2)
                .map(|value| value.to_string().trim_matches('"').to_owned()),
            _ => field.clone(),
        };
        names.extend(value);
    }
    names
}

/// The first literal of each entry of a flag table: after the title, or after a `;`.
fn entries(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<String> = tokens.into_iter().map(|token| token.to_string()).collect();
    let title = tokens
        .iter()
        .position(|token| token.starts_with('"'))
        .unwrap_or(tokens.len());
    let begins = |at: usize| at == title + 2 || (title < at && tokens[at - 1] == ";");
    let firsts = tokens.iter().enumerate().filter(|(at, _)| begins(*at));
    let text = |token: &String| {
        token
            .strip_prefix('"')?
            .strip_suffix('"')
            .map(str::to_owned)
    };
    firsts.filter_map(|(_, token)| text(token)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = r#"
        group! { MEMBER, "Member",
            "name", Text, "off", Works => "Text; more.";
            "data-dir", Path, "", Inert => "x.";
        }
        struct Arguments {
            #[arg(long, default_value_t = 5)] base_port: u16,
            #[arg(long = "cert-file")] cert: u8,
            #[arg(short)] quiet: bool,
        }
        const COMMANDS: &[(&str, &str)] = &[("gateway", "Text."), ("promote", "Text.")];
    "#;

    fn declared() -> Declared {
        let mut declared = Declared::default();
        declared.add(&syn::parse_file(PROGRAM).unwrap());
        declared
    }

    fn undeclared(text: &str) -> Vec<String> {
        let found = declared().undeclared(text, &["release"]);
        found.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn flags_and_commands_are_read_from_the_sources() {
        let all = ["base-port", "cert-file", "data-dir", "name"].map(str::to_owned);
        assert_eq!(declared().flags, BTreeSet::from(all));
        assert_eq!(
            declared().commands,
            BTreeSet::from(["gateway", "promote"].map(str::to_owned))
        );
    }

    #[test]
    fn what_no_program_has_is_found() {
        assert_eq!(
            undeclared("Call `keelson gatway start`."),
            ["keelson gatway"]
        );
        assert_eq!(
            undeclared("`--dta-dir=x` and `keelson --quiet`"),
            ["--dta-dir", "--quiet"]
        );
        assert_eq!(
            undeclared("```sh\nA=1 ./keelson demote --off\n```\n"),
            ["--off", "keelson demote"]
        );
    }

    #[test]
    fn what_a_program_has_is_not() {
        let good = "`keelson promote --data-dir DIR`, `cargo build --release`, `keelson COMMAND`.\n\
            The `--name` of a member, --nothing in prose, and a `keelson`.\n\n```text\n\
            X | --- | a--b\n```\n";
        assert!(undeclared(good).is_empty(), "{:?}", undeclared(good));
    }
}
