//! One row of named numbers in the forms of etcdutl's `--write-out`.

use clap::ValueEnum;
use serde_json::{Map, Number, Value};

/// A form of the output.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum WriteOut {
    /// The values, with commas between them.
    #[default]
    Simple,
    /// A table with a head.
    Table,
    /// An object.
    Json,
}

/// A named number.
pub(super) struct Field {
    title: &'static str,
    name: &'static str,
    value: Number,
    shown: String,
}

impl Field {
    /// A number that is shown as it is.
    pub(super) fn number<N>(title: &'static str, name: &'static str, value: N) -> Field
    where
        N: Copy + ToString + Into<Number>,
    {
        Field {
            title,
            name,
            shown: value.to_string(),
            value: value.into(),
        }
    }

    /// The same, shown to people in another way.
    pub(super) fn shown(self, shown: String) -> Field {
        Field { shown, ..self }
    }
}

/// The fields of one row.
pub(super) struct FieldRow<'a>(pub(super) &'a [Field]);

impl FieldRow<'_> {
    /// The text, with the end of its last line.
    pub(super) fn to_text(&self, format: WriteOut) -> String {
        match format {
            WriteOut::Simple => {
                let values: Vec<_> = self.0.iter().map(|field| field.shown.as_str()).collect();
                values.join(", ") + "\n"
            }
            WriteOut::Json => {
                let fields = self.0.iter();
                let fields =
                    fields.map(|field| (field.name.to_owned(), Value::Number(field.value.clone())));
                Value::Object(fields.collect::<Map<_, _>>()).to_string() + "\n"
            }
            WriteOut::Table => self.table(),
        }
    }

    /// As tablewriter draws it: heads in the middle, values on the right.
    fn table(&self) -> String {
        let width = |field: &Field| field.title.len().max(field.shown.len());
        let line: String = self
            .0
            .iter()
            .map(|field| format!("+{:-<1$}", "", width(field) + 2))
            .collect();
        let head = self
            .0
            .iter()
            .map(|field| format!("| {:^1$} ", field.title.to_uppercase(), width(field)));
        let row = self
            .0
            .iter()
            .map(|field| format!("| {:>1$} ", field.shown, width(field)));
        let (head, row) = (head.collect::<String>(), row.collect::<String>());
        format!("{line}+\n{head}|\n{line}+\n{row}|\n{line}+\n")
    }
}

/// A number of bytes as etcd prints it: three digits, and the unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut at = 0;
    let mut unit = 1_u64;
    while at + 1 < UNITS.len() && unit.saturating_mul(1000) <= bytes {
        unit *= 1000;
        at += 1;
    }
    let tenths = (bytes as f64 / unit as f64 * 10.0 + 0.5).floor() / 10.0;
    match tenths < 10.0 {
        true => format!("{tenths:.1} {}", UNITS[at]),
        false => format!("{tenths:.0} {}", UNITS[at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_etcd_prints_them() {
        let expected = [
            (0, "0 B"),
            (9, "9 B"),
            (20480, "20 kB"),
            (2_101_248, "2.1 MB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_row_has_three_forms() {
        let fields = [
            Field::number("Hash", "hash", 255_u32).shown("ff".to_owned()),
            Field::number("Revision", "revision", 4_i64),
        ];
        let output = FieldRow(&fields);
        assert_eq!(output.to_text(WriteOut::Simple), "ff, 4\n");
        assert_eq!(
            output.to_text(WriteOut::Json),
            "{\"hash\":255,\"revision\":4}\n"
        );
        let table = "+------+----------+\n| HASH | REVISION |\n+------+----------+\n\
                     |   ff |        4 |\n+------+----------+\n";
        assert_eq!(output.to_text(WriteOut::Table), table);
    }
}
