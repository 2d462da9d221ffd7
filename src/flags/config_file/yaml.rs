//! YAML as a tree with line numbers, bounded in size, depth and nodes. JSON is YAML as well.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Bound on the nesting of collections. etcd's keys need three.
const DEPTH_MAX: usize = 16;

/// Bound on the nodes of a file, those that its aliases stand for included.
const NODES_MAX: usize = 10_000;

/// A value with the number of its first line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// The content of a [`Node`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A word as it is written. A plain one has no quotes, and may be a number or a bool.
    Scalar { text: String, is_plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file; a key may stand in it several times.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The line of the key.
    pub(super) line: usize,
    pub(super) node: Node,
}

/// Text that is not YAML, or exceeds a bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    /// From 1.
    pub(super) line: usize,
    pub(super) why: String,
}

impl YamlError {
    fn new(line: usize, why: &str) -> YamlError {
        YamlError {
            line,
            why: why.to_owned(),
        }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> YamlError {
        YamlError::new(error.marker().line(), error.info())
    }
}

/// The first document of `text`, as etcd reads it; `None` if there is none.
pub(super) fn parse(text: &str) -> Result<Option<Node>, YamlError> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    loop {
        match reader.event()? {
            (Event::DocumentStart(_), _) => break,
            (Event::StreamEnd, _) => return Ok(None),
            _ => {}
        }
    }
    let first = reader.event()?;
    reader.node(first, 0).map(Some)
}

/// Builds nodes from the parser's events.
struct Reader<'a, T: saphyr_parser::Input> {
    events: Parser<'a, T>,
    /// Nodes with an anchor, by its id, and how many nodes each one is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a, T: saphyr_parser::Input> Reader<'a, T> {
    fn event(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.events.next() {
            Some(event) => Ok(event?),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: (Event<'a>, Span), depth: usize) -> Result<Node, YamlError> {
        let (event, span) = event;
        let line = span.start.line();
        let before = self.nodes;
        self.count(1, line)?;
        if DEPTH_MAX < depth {
            return Err(YamlError::new(line, "values are nested too deeply"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (anchor, scalar(&text, style == ScalarStyle::Plain))
            }
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(id) => return self.alias(id, line),
            _ => return Err(YamlError::new(line, "a value is missing")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            let size = self.nodes - before;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(more);
        if NODES_MAX < self.nodes {
            return Err(YamlError::new(line, "there are too many values"));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut merged = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let key = match self.event()? {
                (Event::MappingEnd, _) => break,
                event => self.node(event, depth + 1)?,
            };
            let Value::Scalar { text, .. } = key.value else {
                return Err(YamlError::new(key.line, "a key is not a word"));
            };
            let event = self.event()?;
            let node = self.node(event, depth + 1)?;
            match (text.as_str(), node.value) {
                // A merge key: the entries beside it have precedence.
                ("<<", base) => merge(&mut merged, base, key.line)?,
                (_, value) => entries.push(Entry {
                    key: text,
                    line: key.line,
                    node: Node { value, ..node },
                }),
            }
        }
        merged.retain(|base: &Entry| entries.iter().all(|own| own.key != base.key));
        merged.extend(entries);
        Ok(Value::Map(merged))
    }

    fn alias(&mut self, id: usize, line: usize) -> Result<Node, YamlError> {
        let Some((node, size)) = self.anchors.get(&id).cloned() else {
            return Err(YamlError::new(
                line,
                "an alias stands within its own anchor",
            ));
        };
        self.count(size, line)?;
        Ok(node)
    }
}

/// Adds the entries of a merge key: of a map, or of several, of which the first has precedence.
fn merge(merged: &mut Vec<Entry>, base: Value, line: usize) -> Result<(), YamlError> {
    let maps = match base {
        Value::List(maps) => maps.into_iter().map(|node| node.value).collect(),
        map => vec![map],
    };
    for map in maps {
        let Value::Map(entries) = map else {
            return Err(YamlError::new(
                line,
                "a merge key takes a map, or a list of maps",
            ));
        };
        for entry in entries {
            if merged.iter().all(|one| one.key != entry.key) {
                merged.push(entry);
            }
        }
    }
    Ok(())
}

fn scalar(text: &str, is_plain: bool) -> Value {
    if is_plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar {
        text: text.to_owned(),
        is_plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        match parse(text).expect("it is YAML") {
            Some(Node {
                value: Value::Map(entries),
                ..
            }) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn word(text: &str) -> Value {
        Value::Scalar {
            text: text.to_owned(),
            is_plain: true,
        }
    }

    #[test]
    fn keys_have_their_lines() {
        let all = entries("# a comment\na: 1\n\nb:\nc: [x, y]\nd: {e: ~}\n");
        let lines: Vec<_> = all.iter().map(|one| (one.key.as_str(), one.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 4), ("c", 5), ("d", 6)]);
        assert_eq!(all[0].node.value, word("1"));
        assert_eq!(all[1].node.value, Value::Null);
        let Value::List(items) = &all[2].node.value else {
            panic!("{all:?}")
        };
        assert_eq!(items.len(), 2);
        assert_eq!(parse("# nothing\n"), Ok(None));
    }

    #[test]
    fn aliases_and_merges_stand_for_their_anchors() {
        let all = entries("a: &tls {x: 1, y: 2}\nb: *tls\nc:\n  <<: *tls\n  y: 3\n");
        assert_eq!(all[0].node.value, all[1].node.value);
        let Value::Map(merged) = &all[2].node.value else {
            panic!("{all:?}")
        };
        let words: Vec<_> = merged.iter().map(|one| one.node.value.clone()).collect();
        assert_eq!(
            words,
            ["1", "3"].map(word),
            "its own entries have precedence"
        );
    }

    #[test]
    fn several_maps_are_merged_and_the_first_has_precedence() {
        let text = "a: &a {x: 1}\nb: &b {x: 2, y: 3}\nc:\n  <<: [*a, *b]\n  z: 4\n";
        let all = entries(text);
        let Value::Map(merged) = &all[2].node.value else {
            panic!("{all:?}")
        };
        let keys: Vec<_> = merged.iter().map(|one| one.key.as_str()).collect();
        let words: Vec<_> = merged.iter().map(|one| one.node.value.clone()).collect();
        assert_eq!(keys, ["x", "y", "z"]);
        assert_eq!(words, ["1", "3", "4"].map(word));
        assert!(parse("c:\n  <<: word\n").is_err());
    }

    /// Nine levels of nine aliases would be hundreds of millions of nodes.
    #[test]
    fn what_exceeds_a_bound_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let items = vec![format!("*a{}", level - 1); 9].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let error = parse(&bomb).expect_err("too many");
        assert_eq!(error.why, "there are too many values");
        let deep = "[".repeat(100) + &"]".repeat(100);
        let error = parse(&deep).expect_err("too deep");
        assert_eq!(error.why, "values are nested too deeply");
        assert!(parse("a: &x [*x]").is_err());
    }

    #[test]
    fn faults_name_their_line() {
        for (text, line) in [
            ("a: 1\nb: [\n", 2),
            ("a: 1\nb: 'x\n", 2),
            ("? [a]\n: 1\n", 1),
        ] {
            let error = parse(text).expect_err(text);
            assert!(line <= error.line, "{error:?}");
            assert!(!error.why.is_empty());
        }
    }
}
