//! Tables in Markdown, and the files of a report.

use std::path::Path;

use anyhow::{Context, Result};

/// A table that grows row by row.
#[derive(Debug)]
pub struct Table {
    text: String,
    columns: usize,
}

impl Table {
    /// The head: the first `words` columns hold words, the rest figures.
    pub fn new(words: usize, columns: &[&str]) -> Table {
        let mut table = Table {
            text: String::new(),
            columns: columns.len(),
        };
        table.line(columns.iter().map(ToString::to_string));
        let marks = (0..columns.len()).map(|place| if place < words { "---" } else { "--:" });
        let marks: Vec<&str> = marks.collect();
        table.text += &format!("|{}|\n", marks.join("|"));
        table
    }

    /// Adds a row.
    pub fn row(&mut self, words: &[&str], figures: impl IntoIterator<Item = String>) {
        let words = words.iter().map(ToString::to_string);
        self.line(words.chain(figures));
    }

    /// The table.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, cells: impl Iterator<Item = String>) {
        let cells: Vec<String> = cells.collect();
        assert_eq!(cells.len(), self.columns, "{cells:?}");
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

/// Ours through theirs, in bold; a dash where there is nothing to divide by.
pub fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 {
        format!("**{:.2}**", ours / theirs)
    } else {
        "-".into()
    }
}

/// Bytes in megabytes.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Prints a report, and writes it into the directory, if there is one.
///
/// # Errors
/// It cannot be written.
pub fn publish(out: Option<&Path>, name: &str, text: String) -> Result<()> {
    print!("{text}");
    out.map_or(Ok(()), |out| write(out, &[(name, text)]))
}

/// Writes files into a directory, which is made if it is not there.
///
/// # Errors
/// It cannot be written.
pub fn write(out: &Path, files: &[(&str, String)]) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for (name, text) in files {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let mut table = Table::new(1, &["op", "req/s"]);
        table.row(&["get"], ["12".to_string()]);
        table.row(&["*ratio*"], [ratio(1.0, 4.0)]);
        let expected = "| op | req/s |\n|---|--:|\n| get | 12 |\n| *ratio* | **0.25** |\n";
        assert_eq!(table.finish(), expected);
        assert_eq!(ratio(1.0, 0.0), "-");
    }
}
