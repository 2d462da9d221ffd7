//! The table of `keelson top`, and its JSON.

use keelson_proto::keelsonpb::KeySpace;
use serde_json::json;

use super::uses::{Activity, Row};

/// The width of a column of figures.
const WIDTH: usize = 9;

/// The head of the table.
const COLUMNS: [&str; 6] = [
    "READS/S",
    "WRITES/S",
    "READ/S",
    "WRITTEN/S",
    "KEYS",
    "BYTES",
];

/// The table.
pub(super) fn text(activity: &Activity) -> String {
    let mut text = match activity.silent {
        0 => format!("members: {}", activity.members),
        silent => format!(
            "members: {}, and {silent} that do not answer",
            activity.members
        ),
    };
    text += &format!(", {:.1} s\n\n", activity.seconds);
    line(&mut text, COLUMNS.map(str::to_owned), "API  PREFIX");
    for row in &activity.rows {
        let figures = [
            rate(row.reads),
            rate(row.writes),
            bytes(row.read_bytes),
            bytes(row.written_bytes),
            row.keys.to_string(),
            bytes(row.bytes as f64),
        ];
        let name = format!("{:<3}  {}", space(row.space), name(row));
        line(&mut text, figures, &name);
    }
    if activity.hidden != 0 {
        text += &format!("\n{} more: --limit shows them\n", activity.hidden);
    }
    text
}

/// The same as JSON.
pub(super) fn json(activity: &Activity) -> String {
    let rows = activity.rows.iter().map(|row| {
        json!({
            "api": space(row.space),
            "prefix": row.prefix.as_ref().map(|prefix| String::from_utf8_lossy(prefix)),
            "reads_per_second": row.reads,
            "writes_per_second": row.writes,
            "read_bytes_per_second": row.read_bytes,
            "written_bytes_per_second": row.written_bytes,
            "keys": row.keys,
            "bytes": row.bytes,
        })
    });
    let all = json!({
        "seconds": activity.seconds,
        "members": activity.members,
        "silent_members": activity.silent,
        "prefixes": rows.collect::<Vec<_>>(),
        "hidden_prefixes": activity.hidden,
    });
    format!("{all:#}\n")
}

fn line(text: &mut String, figures: [String; 6], name: &str) {
    for figure in figures {
        *text += &format!("{figure:>WIDTH$}  ");
    }
    *text += name;
    text.push('\n');
}

fn space(space: KeySpace) -> &'static str {
    match space {
        KeySpace::V3 => "v3",
        KeySpace::V2 => "v2",
    }
}

/// The prefix without control characters, which a terminal would obey.
fn name(row: &Row) -> String {
    match &row.prefix {
        None => "(others)".to_owned(),
        Some(prefix) if prefix.is_empty() => "(no directory)".to_owned(),
        Some(prefix) => prefix.escape_ascii().to_string(),
    }
}

fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn bytes(bytes: f64) -> String {
    let (mut bytes, mut unit) = (bytes, 0);
    let units = ["", "K", "M", "G", "T"];
    while 1024.0 <= bytes && unit + 1 < units.len() {
        bytes /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes:.0}"),
        _ if bytes < 10.0 => format!("{bytes:.1}{}", units[unit]),
        _ => format!("{bytes:.0}{}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(space: KeySpace, prefix: Option<&[u8]>) -> Row {
        Row {
            space,
            prefix: prefix.map(<[u8]>::to_vec),
            reads: 1234.4,
            writes: 0.25,
            read_bytes: 0.0,
            written_bytes: 1536.0,
            keys: 12,
            bytes: 5 << 30,
        }
    }

    #[test]
    fn a_table() {
        let activity = Activity {
            seconds: 2.0,
            rows: vec![
                row(KeySpace::V3, Some(b"/registry/pods/")),
                row(KeySpace::V2, Some(b"/\x1b[2J/")),
                row(KeySpace::V3, None),
            ],
            hidden: 3,
            members: 4,
            silent: 1,
        };
        let figures = "     1234        0.2          0       1.5K         12       5.0G  ";
        let expected = format!(
            "members: 4, and 1 that do not answer, 2.0 s\n\n  READS/S   WRITES/S     READ/S  \
             WRITTEN/S       KEYS      BYTES  API  PREFIX\n\
             {figures}v3   /registry/pods/\n{figures}v2   /\\x1b[2J/\n{figures}v3   (others)\n\n3 \
             more: --limit shows them\n"
        );
        assert_eq!(text(&activity), expected);
        let value: serde_json::Value = serde_json::from_str(&json(&activity)).expect("JSON");
        assert_eq!(value["prefixes"][0]["keys"], 12);
        assert_eq!(value["prefixes"][2]["prefix"], serde_json::Value::Null);
    }
}
