//! Links and paths in the documents lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

/// A Markdown document, cut into what is prose and what is code.
#[derive(Debug, Default)]
pub struct Document {
    /// Lines outside of code, with their numbers; spans of code are blanked.
    pub prose: Vec<(usize, String)>,
    /// Spans of code, and the lines of code blocks, with their numbers.
    pub code: Vec<(usize, String)>,
}

impl Document {
    /// Cuts the text.
    pub fn of(text: &str) -> Document {
        let mut document = Document::default();
        let mut fence = None;
        let mut span: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let mark = line.trim_start();
            let is_fence = mark.starts_with("```") || mark.starts_with("~~~");
            match fence {
                None if is_fence => fence = Some(mark[..3].to_owned()),
                Some(ref open) if mark.starts_with(open.as_str()) => fence = None,
                Some(_) => document.code.push((number, line.to_owned())),
                None => document.spans(number, line, &mut span),
            }
        }
        document
    }

    /// Cuts a line of prose; a span of code that it does not close goes on in the next line.
    fn spans(&mut self, number: usize, line: &str, open: &mut Option<(usize, String)>) {
        if line.trim().is_empty() {
            *open = None;
        }
        let mut prose = String::new();
        let mut pieces = line.split('`').peekable();
        while let Some(piece) = pieces.next() {
            match open.as_mut() {
                Some((_, code)) => {
                    code.push_str(piece);
                    if pieces.peek().is_none() {
                        code.push(' ');
                    }
                }
                None => prose.push_str(piece),
            }
            if pieces.peek().is_some() {
                match open.take() {
                    Some(span) => self.code.push(span),
                    None => *open = Some((number, String::new())),
                }
            }
        }
        self.prose.push((number, prose));
    }

    /// The anchors of the headings, as GitHub makes them.
    pub fn anchors(text: &str) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        let mut in_code = false;
        for line in text.lines() {
            in_code ^= line.trim_start().starts_with("```");
            let title = line.trim_start_matches('#');
            if in_code || title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_');
            let slug: String = title.trim().to_lowercase().chars().filter(kept).collect();
            let slug = slug.replace(' ', "-");
            let times = seen.entry(slug.clone()).or_default();
            anchors.insert(match *times {
                0 => slug,
                more => format!("{slug}-{more}"),
            });
            *times += 1;
        }
        anchors
    }

    /// The targets of links that are not URLs.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in &self.prose {
            let definition = line
                .strip_prefix('[')
                .and_then(|line| line.split_once("]: "));
            let inline = line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'));
            let targets = inline
                .map(|(target, _)| target)
                .chain(definition.map(|(_, target)| target));
            let targets = targets.map(|target| target.split(' ').next().unwrap_or_default());
            let ours =
                targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
            links.extend(ours.map(|target| (*number, target.to_owned())));
        }
        links
    }

    /// Spans of code that are paths of the workspace: they begin with one of `tops` and name a file
    /// (with a dot) or a directory (with a slash at the end). Go's files are etcd's.
    pub fn paths(&self, tops: &[&str]) -> Vec<(usize, String)> {
        let is_path = |span: &str| {
            let plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
            let (top, rest) = span.split_once('/').unwrap_or_default();
            let last = rest
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default();
            let named = last.contains('.') || (!last.is_empty() && rest.ends_with('/'));
            tops.contains(&top) && named && !rest.ends_with(".go") && span.chars().all(plain)
        };
        self.code
            .iter()
            .filter(|(_, span)| is_path(span.trim()))
            .cloned()
            .collect()
    }
}

/// The links of the document at `path` that lead nowhere. `read` has the text of a file, and an
/// empty one for what is there and has none.
pub fn broken(
    path: &str,
    text: &str,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<(usize, String)> {
    let links = Document::of(text).links();
    let leads_nowhere = |link: &str| {
        let (file, anchor) = link
            .split_once('#')
            .map_or((link, None), |(f, a)| (f, Some(a)));
        let target = match file {
            "" => Some(text.to_owned()),
            file => read(&resolve(path, file)),
        };
        let Some(target) = target else { return true };
        anchor.is_some_and(|anchor| !Document::anchors(&target).contains(anchor))
    };
    links
        .into_iter()
        .filter(|(_, link)| leads_nowhere(link))
        .collect()
}

/// The path of a link in the document at `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_in(text: &str) -> Vec<String> {
        let read = |path: &str| match path {
            "docs/there.md" => Some("# A title, of `it`\n## A title, of it\n".to_owned()),
            "README.md" | "docs/plot.svg" => Some(String::new()),
            _ => None,
        };
        let found = broken("docs/here.md", text, read);
        found
            .into_iter()
            .map(|(line, link)| format!("{line}: {link}"))
            .collect()
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let bad = "[a](gone.md)\n[b](there.md#gone) ![c](../plot.svg)\n\n[d]: ../docs/gone.md\n\
            [e](#gone)";
        let all = [
            "1: gone.md",
            "2: there.md#gone",
            "2: ../plot.svg",
            "4: ../docs/gone.md",
            "5: #gone",
        ];
        assert_eq!(broken_in(bad), all);
    }

    #[test]
    fn links_that_lead_somewhere_are_not() {
        let good = "# Here\n[a](there.md#a-title-of-it) [b](./there.md#a-title-of-it-1)\n\
            [c](#here)\n\
            ![d](plot.svg \"a plot\") [e](https://x.org/y) [f](../README.md)\n`[g](gone.md)`\n\
            ```\n[h](gone.md)\n```\n";
        assert!(broken_in(good).is_empty(), "{:?}", broken_in(good));
    }

    #[test]
    fn code_is_told_from_prose() {
        let document = Document::of("Call `a b\nc` and `d`.\n\n```sh\ne # f\n```\n");
        let code: Vec<&str> = document
            .code
            .iter()
            .map(|(_, code)| code.as_str())
            .collect();
        assert_eq!(code, ["a b c", "d", "e # f"]);
        let prose: Vec<&str> = document
            .prose
            .iter()
            .map(|(_, prose)| prose.as_str())
            .collect();
        assert_eq!(prose, ["Call ", " and .", ""]);
    }

    #[test]
    fn paths_of_the_workspace_are_found() {
        let text = "`src/main.rs` `main.rs` `src/*.rs` `/var/src/x` `src` `src/host/` `docs/a b` \
            `src/x.go` `src/x`";
        let paths = Document::of(text).paths(&["src", "docs"]);
        assert_eq!(
            paths,
            [(1, "src/main.rs".to_owned()), (1, "src/host/".to_owned())]
        );
    }
}
