//! The members of a file, which are left out of the cluster that is made from it.

use std::collections::HashSet;
use std::fmt;

use super::buckets::{self, StoredMember};
use super::input::{InputError, SnapshotFile};

/// A member of the cluster before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedMember {
    /// Its id.
    pub id: u64,
    /// Its name; empty if it was never started.
    pub name: String,
    /// A zombie: it is listed, and also among the removed ones. etcd 3.6 would count it again.
    pub was_removed: bool,
}

impl fmt::Display for DroppedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x} ({}) is not in the new cluster", self.id, self.name)?;
        if self.was_removed {
            f.write_str(": it had been removed before, and was listed all the same (a zombie)")?;
        }
        Ok(())
    }
}

/// The members of a file.
///
/// # Errors
/// Those of the file.
pub(crate) fn members(file: &SnapshotFile) -> Result<Vec<DroppedMember>, InputError> {
    let mut removed = HashSet::new();
    file.rows(buckets::MEMBERS_REMOVED, |row| {
        let id = std::str::from_utf8(&row.key).ok();
        let id = id.and_then(|text| u64::from_str_radix(text, 16).ok());
        let what = "a key that is no id";
        removed.insert(id.ok_or_else(|| file.wrong(buckets::MEMBERS_REMOVED, what))?);
        Ok::<_, InputError>(())
    })?;
    let mut members = Vec::new();
    file.rows(buckets::MEMBERS, |row| {
        let member: StoredMember = serde_json::from_slice(&row.value)
            .map_err(|error| file.wrong(buckets::MEMBERS, error))?;
        members.push(DroppedMember {
            id: member.id,
            name: member.name,
            was_removed: removed.contains(&member.id),
        });
        Ok::<_, InputError>(())
    })?;
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    use keelson_bolt::Builder;

    /// Found: the removed members were written and never read.
    #[test]
    fn a_member_that_is_listed_and_removed_is_a_zombie() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let fill = |builder: &mut Builder| {
            builder.bucket(b"members").unwrap();
            for (id, name) in [(0xa_u64, "m1"), (0xb, "m2")] {
                let row = format!("{{\"id\":{id},\"name\":\"{name}\"}}");
                let key = format!("{id:x}");
                builder.row(key.as_bytes(), row.as_bytes()).unwrap();
            }
            builder.bucket(b"members_removed").unwrap();
            for id in ["b", "c"] {
                builder.row(id.as_bytes(), b"removed").unwrap();
            }
        };
        let mut plan = Builder::plan();
        fill(&mut plan);
        let mut builder = Builder::write(plan.finish().unwrap().layout);
        fill(&mut builder);
        std::fs::write(&path, builder.finish().unwrap().rest).unwrap();
        let members = members(&SnapshotFile::open(&path).unwrap()).unwrap();
        let texts: Vec<_> = members.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "a (m1) is not in the new cluster");
        assert_eq!(
            texts[1],
            "b (m2) is not in the new cluster: it had been removed before, and was listed all \
             the same (a zombie)"
        );
        assert_eq!(texts.len(), 2, "one that is removed alone is none");
    }
}
