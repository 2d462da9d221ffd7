//! What names one member or one run in the output of etcdctl.

use serde_json::Value;

/// Keys of JSON and of `-w fields` whose values name one member or one run.
const MASKED: [&str; 16] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "ID",
    "leader",
    "version",
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftAppliedIndex",
    "raftTerm",
    "storageVersion",
    "dbSizeQuota",
    "downgradeInfo",
    // Of a lease: it passes.
    "ttl",
    // Of `endpoint health`.
    "took",
];

/// Columns of tables, and positions in the comma-separated line of `endpoint status`.
const COLUMNS: [&str; 6] = [
    "VERSION",
    "DB SIZE",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ID",
];
const STATUS_FIELDS: [usize; 6] = [1, 2, 3, 6, 7, 8];

/// The line without its variable parts; an empty text for a table's border.
pub(super) fn mask_line(line: &str, arguments: &str) -> Option<String> {
    let line = line.trim_end();
    if line.starts_with("+--") {
        return None;
    }
    if let Ok(mut json) = serde_json::from_str::<Value>(line) {
        // The client's own log: of its error only our part is compared.
        if json.get("level").is_some() {
            return Some(json["error"].to_string());
        }
        mask_json(&mut json);
        return Some(json.to_string());
    }
    if let Some(members) = line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
        // In the order of their ids.
        let mut members: Vec<&str> = members.trim_matches('"').split(',').collect();
        members.sort_unstable();
        return Some(members.join(","));
    }
    if line.starts_with('|') {
        return Some(mask_cells(line));
    }
    if let Some((name, value)) = line.split_once("\" : ") {
        let name = name.trim_start_matches('"');
        let pair = name == "Version" && !value.starts_with('"');
        let masked = !pair && MASKED.iter().any(|masked| same_name(masked, name));
        return Some(if masked {
            format!("{name}: masked")
        } else {
            line.to_string()
        });
    }
    if arguments == "endpoint status" {
        let fields = line.split(", ").enumerate();
        let fields = fields.map(|(at, field)| {
            if STATUS_FIELDS.contains(&at) {
                "masked"
            } else {
                field
            }
        });
        return Some(fields.collect::<Vec<_>>().join(", "));
    }
    let line = line.split("took = ").next().unwrap_or(line);
    let words = line.split(", ").map(|word| {
        // The time that a lease has left.
        let remaining = word.starts_with("remaining(");
        // The key of a session ends with its lease.
        let (path, last) = word.rsplit_once('/').unwrap_or(("", word));
        match mask_id(last) {
            _ if remaining => "remaining".to_owned(),
            "ID" => format!("{path}/ID"),
            _ => mask_ids(word),
        }
    });
    Some(words.collect::<Vec<_>>().join(", "))
}

/// etcdctl pads an id with spaces to 16 digits: of 16 ids, one begins with a zero.
fn mask_ids(words: &str) -> String {
    let mut masked: Vec<&str> = Vec::new();
    for word in words.split(' ') {
        let id = mask_id(word);
        while id == "ID" && masked.len() > 1 && masked.last() == Some(&"") {
            masked.pop();
        }
        masked.push(id);
    }
    masked.join(" ")
}

/// `raft_term` of JSON is `RaftTerm` among fields.
fn same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    plain(one) == plain(other)
}

fn mask_json(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                // A pair's version is a number and not masked; a server's is text.
                let pair = name == "version" && value.is_number();
                if MASKED.contains(&name.as_str()) && !pair {
                    *value = Value::Null;
                }
                mask_json(value);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_json),
        _ => {}
    }
}

/// A table's cells without their padding. A cell is masked by its form, since rows do not contain
/// their headings: versions, sizes, ids and bare numbers.
fn mask_cells(line: &str) -> String {
    let cells = line.split('|').map(|cell| {
        let cell = cell.trim();
        // Before numbers: an id may have decimal digits only.
        if mask_id(cell) != cell {
            return mask_id(cell);
        }
        let number = !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || c == '.');
        let size = cell.ends_with('B') && cell.starts_with(|c: char| c.is_ascii_digit());
        let heading = COLUMNS.contains(&cell);
        if (number || size) && !heading {
            "masked"
        } else {
            cell
        }
    });
    cells.collect::<Vec<_>>().join("|")
}

/// Member and cluster ids are the only long hexadecimal words.
fn mask_id(word: &str) -> &str {
    let hex = word.len() >= 13 && word.chars().all(|c| c.is_ascii_hexdigit());
    if hex { "ID" } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_padding_of_a_short_id_is_masked() {
        let line = |id: &str| format!("Member {id:>16} updated in cluster {id:>16}");
        for id in ["1e3b0d4c9f47d96", "e3b0d4c9f47d96", "ae62d877776ec015"] {
            let masked = mask_line(&line(id), "member update");
            assert_eq!(
                masked.as_deref(),
                Some("Member ID updated in cluster ID"),
                "{id}"
            );
        }
    }
}
