//! Every dependency of a crate is used: by its code, or by its tests if it stands among theirs.

use crate::source::Source;

/// The dependencies of the manifest that the crate's sources do not name, as `section name`.
pub fn unused(manifest: &str, sources: &[&Source]) -> Vec<String> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(title) = line.strip_prefix('[') {
            section = title.trim_end_matches(']').to_owned();
        }
        let is_name = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
        let name = line.split(|char| !is_name(char)).next().unwrap_or_default();
        let for_tests = match section
            .rsplit_once('.')
            .map_or(section.as_str(), |(_, last)| last)
        {
            "dependencies" if section != "workspace.dependencies" && !line.contains("optional") => {
                false
            }
            "dev-dependencies" => true,
            _ => continue,
        };
        let module = name.replace('-', "_");
        let mut of = sources
            .iter()
            .filter(|source| for_tests || !source.is_for_tests());
        if !name.is_empty() && !of.any(|source| names(&source.text, &module)) {
            found.push(format!("{section} {name}"));
        }
    }
    found
}

/// Whether code names the crate: `module::`, `use module;`, or an attribute of a derive.
fn names(text: &str, module: &str) -> bool {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    code.into_iter().any(|line| {
        line.match_indices(module).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = &line[at + module.len()..];
            let inner = line[..at].ends_with("::") && !line[..at].ends_with(" ::");
            let uses = ["::", ";", " as ", "("]
                .iter()
                .any(|next| after.starts_with(next));
            !before.is_some_and(is_word) && !inner && uses
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_is_not_named_is_found() {
        let code = Source::example("proxy/src/a.rs", "// rand::random\nuse http_body::Body;\n");
        let inner = Source::example("proxy/src/b.rs", "use crate::h2::Frame;\nlet brand = 1;\n");
        let tests = Source::example(
            "proxy/src/tests/c.rs",
            "use h2::client;\nuse hyper::body;\n",
        );
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nhttp-body = \"1\"\n\
            rand.workspace = true\n\
            h2 = \"0.4\"\n\n[dev-dependencies]\nhyper = \"1\"\ntower = \"1\"\n[lints]\n\
            workspace = true\n";
        let all = [
            "dependencies rand",
            "dependencies h2",
            "dev-dependencies tower",
        ];
        assert_eq!(unused(manifest, &[&code, &inner, &tests]), all);
    }
}
