//! A strict reader of Prometheus's text format: it accepts what `promtool check metrics` parses,
//! and also refuses series that are out of place, repeated, or of an incomplete histogram.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};

/// A series: its name, labels and value.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads a whole text.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Series>> {
    ensure!(text.ends_with('\n'), "the last line has no end");
    let (mut all, mut metrics, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut metric, mut kind) = ("", "");
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').context("a metric without help")?;
            let next = lines.next().unwrap_or_default();
            let declared = next
                .strip_prefix("# TYPE ")
                .context("no type behind help")?;
            let (of, declared) = declared.split_once(' ').context("no type")?;
            ensure!(of == name, "the type of {of} behind the help of {name}");
            let kinds = ["counter", "gauge", "histogram"];
            ensure!(kinds.contains(&declared), "{name} is a {declared}");
            ensure!(metrics.insert(name), "{name} is there twice");
            (metric, kind) = (name, declared);
            continue;
        }
        let series = one(line).with_context(|| format!("in {line}"))?;
        let base = match kind {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| series.name.strip_suffix(suffix)),
            _ => Some(&*series.name),
        };
        ensure!(base == Some(metric), "{line} behind {metric}");
        let identity = format!("{} {:?}", series.name, series.labels);
        ensure!(seen.insert(identity), "{line} is there twice");
        ensure!(kind == "gauge" || 0.0 <= series.value, "{line} is negative");
        all.push(series);
    }
    histograms(&all)?;
    Ok(all)
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    let first = characters.next();
    first.is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn one(line: &str) -> anyhow::Result<Series> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    ensure!(is_name(name), "a bad name");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").context("a bad label")?;
            ensure!(is_name(label), "a bad label {label}");
            let (value, behind) = quoted(value)?;
            ensure!(
                labels.insert(label.to_owned(), value).is_none(),
                "{label} twice"
            );
            match behind.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = behind.strip_prefix('}').context("no end of the labels")?;
                    break;
                }
            }
        }
    }
    let value = rest
        .strip_prefix(' ')
        .context("no blank before the value")?;
    Ok(Series {
        name: name.to_owned(),
        labels,
        value: value.parse().context("no number")?,
    })
}

/// A label's value up to its quote, and what is behind it.
fn quoted(text: &str) -> anyhow::Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some(same @ ('"' | '\\')) => value.push(same),
                other => bail!("{other:?} is escaped"),
            },
            other => value.push(other),
        }
    }
    bail!("a label's value has no end")
}

/// The buckets of each histogram rise to its count.
fn histograms(all: &[Series]) -> anyhow::Result<()> {
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut ends: BTreeMap<String, f64> = BTreeMap::new();
    for series in all {
        let mut labels = series.labels.clone();
        let bound = labels.remove("le");
        if let (Some(name), Some(bound)) = (series.name.strip_suffix("_bucket"), bound) {
            let of = format!("{name} {labels:?}");
            let before = last.insert(of.clone(), series.value).unwrap_or(0.0);
            ensure!(before <= series.value, "the buckets of {of} fall");
            if bound == "+Inf" {
                ends.insert(of, series.value);
            }
        }
    }
    for of in last.keys() {
        let (name, labels) = of.split_once(' ').unwrap_or_default();
        let count = all.iter().find(|series| {
            series.name.strip_suffix("_count") == Some(name)
                && format!("{:?}", series.labels) == labels
        });
        let count = count.map(|series| series.value);
        ensure!(
            ends.get(of).copied() == count && count.is_some(),
            "{of} has no end"
        );
    }
    Ok(())
}

#[test]
fn faults_are_found() {
    let head = "# HELP a A.\n# TYPE a counter\n";
    assert_eq!(
        read(&format!("{head}a{{b=\"c\\\"\"}} 1\n")).unwrap().len(),
        1
    );
    for wrong in [
        "a -1\n",
        "a 1",
        "a 1\na 1\n",
        "b 1\n",
        "a{b=c} 1\n",
        "a{b=\"c} 1\n",
        "a x\n",
        "# HELP a A.\n# TYPE a counter\n",
    ] {
        assert!(read(&format!("{head}{wrong}")).is_err(), "{wrong}");
    }
    let head = "# HELP h H.\n# TYPE h histogram\n";
    for wrong in [
        "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
        "h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n",
        "h 1\n",
    ] {
        assert!(read(&format!("{head}{wrong}")).is_err(), "{wrong}");
    }
}
