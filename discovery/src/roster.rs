//! The registered hosts in the order of registration: the first N are the cluster.

use std::collections::BTreeMap;

use crate::error::Remedies;
use crate::registration;
use crate::{DiscoveryError, Size};

/// One registered host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The member id in hexadecimal.
    pub id: String,
    /// `name=url[,name=url]`.
    pub value: String,
    /// The store's index at its creation: its position in the order.
    pub created: u64,
    /// The store's index at its last change.
    pub modified: u64,
}

/// All registered hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    size: Size,
    /// Sorted by `created`; no id occurs twice.
    entries: Vec<Entry>,
}

impl Roster {
    /// A roster without entries.
    pub fn new(size: Size) -> Roster {
        let entries = Vec::new();
        Roster { size, entries }
    }

    /// Adds an entry, unless its id is present.
    pub fn add(&mut self, entry: Entry) -> bool {
        if self.find(&entry.id).is_some() {
            return false;
        }
        let at = self
            .entries
            .partition_point(|other| other.created <= entry.created);
        self.entries.insert(at, entry);
        true
    }

    /// The number of members that the cluster will have.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The founders that have registered so far.
    pub fn founders(&self) -> &[Entry] {
        &self.entries[..self.entries.len().min(self.size.get() as usize)]
    }

    /// The number of founders that have not registered.
    pub fn missing(&self) -> usize {
        self.size.get() as usize - self.founders().len()
    }

    /// An entry, founder or not.
    pub fn find(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Whether all places are taken, and none of them by this id.
    pub fn is_full_for(&self, id: &str) -> bool {
        self.missing() == 0 && !self.founders().iter().any(|entry| entry.id == id)
    }

    /// The founders as `--initial-cluster` has them, in the order of registration.
    pub fn initial_cluster(&self, remedies: &Remedies) -> Result<String, DiscoveryError> {
        self.check(remedies)?;
        let values: Vec<&str> = (self.founders().iter())
            .map(|entry| entry.value.as_str())
            .collect();
        Ok(values.join(","))
    }

    /// Checks that N founders have N names, and that no URL occurs twice.
    fn check(&self, remedies: &Remedies) -> Result<(), DiscoveryError> {
        let mut names: BTreeMap<String, &str> = BTreeMap::new();
        let mut urls: BTreeMap<String, &str> = BTreeMap::new();
        for Entry { id, value, .. } in self.founders() {
            let members =
                registration::parse(value).map_err(|error| DiscoveryError::InvalidEntry {
                    id: id.clone(),
                    value: value.clone(),
                    reason: error.to_string(),
                    remove: format!("{}/{id}", remedies.remove),
                    renew: remedies.renew.clone(),
                })?;
            for (name, peer_urls) in members {
                for url in peer_urls {
                    if let Some(other) = urls.insert(url.clone(), id) {
                        let ids = format!("{other} and {id}");
                        return Err(DiscoveryError::DuplicateUrl { url, ids });
                    }
                }
                if let Some(other) = names.insert(name.clone(), id) {
                    let ids = format!("{other} and {id}");
                    return Err(DiscoveryError::DuplicateName { name, ids });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedies() -> Remedies {
        Remedies {
            remove: "curl -X DELETE http://d/t".to_owned(),
            renew: "make another".to_owned(),
        }
    }

    fn entry(id: &str, value: &str, created: u64) -> Entry {
        Entry {
            id: id.to_owned(),
            value: value.to_owned(),
            created,
            modified: created,
        }
    }

    fn roster(size: &str, entries: Vec<Entry>) -> Roster {
        let mut roster = Roster::new(size.parse().expect("a size"));
        for entry in entries {
            roster.add(entry);
        }
        roster
    }

    #[test]
    fn the_first_to_come_are_the_cluster() {
        let three = roster(
            "2",
            vec![
                entry("c", "c=http://h:3", 9),
                entry("a", "a=http://h:1", 7),
                entry("b", "b=http://h:2", 8),
            ],
        );
        let founded = three.initial_cluster(&remedies()).expect("good");
        assert_eq!(founded, "a=http://h:1,b=http://h:2");
        assert!(three.is_full_for("c") && three.is_full_for("d"));
        assert!(!three.is_full_for("a"));
        assert_eq!(three.missing(), 0);
    }

    #[test]
    fn who_is_known_counts_once() {
        let mut one = roster("3", vec![entry("a", "a=http://h:1", 7)]);
        assert!(!one.add(entry("a", "a=http://h:1", 7)));
        assert!(one.add(entry("b", "b=http://h:2", 8)));
        assert_eq!(one.missing(), 1);
        assert!(!one.is_full_for("z"));
    }

    #[test]
    fn names_and_urls_are_no_two_members() {
        let check = |other: &str| {
            let entries = vec![entry("a", "a=http://h:1", 7), entry("b", other, 8)];
            roster("2", entries).initial_cluster(&remedies())
        };
        assert!(matches!(
            check("a=http://h:2"),
            Err(DiscoveryError::DuplicateName { .. })
        ));
        assert!(matches!(
            check("b=http://h:1"),
            Err(DiscoveryError::DuplicateUrl { .. })
        ));
        let error = check("rubbish").expect_err("no URL").to_string();
        assert!(
            error.contains("the entry b of the token is \"rubbish\""),
            "{error}"
        );
        assert!(error.contains("curl -X DELETE http://d/t/b"), "{error}");
    }
}
