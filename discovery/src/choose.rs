//! The meaning of `DEIS_NUM_INSTANCES` together with a list of hosts, or with a token.

use crate::Size;
use crate::registration::{EntryError, pair};

/// A host's place in a static `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of the members.
    Member {
        /// The members, in the list's order.
        initial_cluster: String,
    },
    /// Listed after the members: a proxy for them.
    Proxy {
        /// The members, in the list's order.
        initial_cluster: String,
    },
}

/// Why a host has no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// Not a list of hosts.
    #[error(
        "--initial-cluster: {0}; write name=http://host:2380 for each host, with commas between"
    )]
    Entry(#[from] EntryError),
    /// Not one of the hosts.
    #[error(
        "couldn't find local name {name:?} in the initial cluster configuration; add \
         {name}=<peer URL> to --initial-cluster, or give one of its names as --name: {names}"
    )]
    NotListed {
        /// `--name`.
        name: String,
        /// The names in the list.
        names: String,
    },
}

/// The first `size` names of a static list are the members, the others proxies.
///
/// A list of at most `size` hosts is left as it is: all of them are members.
pub fn choose(initial_cluster: &str, size: Size, own_name: &str) -> Result<Place, ChooseError> {
    let (names, parts) = named(initial_cluster)?;
    let count = size.get() as usize;
    let own = names.iter().position(|name| *name == own_name);
    let own = own.ok_or_else(|| ChooseError::NotListed {
        name: own_name.to_owned(),
        names: names.join(", "),
    })?;
    let members = parts.iter().filter(|(place, _)| *place < count);
    let members: Vec<&str> = members.map(|(_, part)| *part).collect();
    let initial_cluster = members.join(",");
    Ok(match own < count {
        true => Place::Member { initial_cluster },
        false => Place::Proxy { initial_cluster },
    })
}

/// The names in their order, and each part with the position of its name.
type Named<'a> = (Vec<&'a str>, Vec<(usize, &'a str)>);

fn named(initial_cluster: &str) -> Result<Named<'_>, EntryError> {
    let mut names: Vec<&str> = Vec::new();
    let mut parts: Vec<(usize, &str)> = Vec::new();
    for part in initial_cluster.split(',').map(str::trim) {
        if part.is_empty() {
            continue;
        }
        let (name, _) = pair(part)?;
        // A repeated name is one host with several URLs.
        let place = names.iter().position(|known| *known == name);
        let place = place.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        parts.push((place, part));
    }
    if names.is_empty() {
        return Err(EntryError::Empty);
    }
    Ok((names, parts))
}

/// The warning for a list of `listed` hosts that is shorter than `DEIS_NUM_INSTANCES`: the list has
/// precedence.
pub fn list_is_short(listed: usize, wanted: Size) -> Option<String> {
    let short = listed < wanted.get() as usize;
    short.then(|| {
        format!(
            "DEIS_NUM_INSTANCES is {wanted}, but --initial-cluster lists {listed} hosts: the \
             cluster will have {listed} members"
        )
    })
}

/// The warning for a token whose size is not `DEIS_NUM_INSTANCES`: the token has precedence,
/// because all hosts share it.
pub fn token_disagrees(token: Size, wanted: Size) -> Option<String> {
    (token != wanted).then(|| {
        format!(
            "DEIS_NUM_INSTANCES is {wanted}, but the discovery URL was made for {token} members: \
             the cluster will have {token}; for another size make a new discovery URL"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: &str =
        "a=http://h:1, b=http://h:2,c=http://h:3,a=http://h:11,d=http://h:4,e=http://h:5";

    fn size(count: u32) -> Size {
        count.to_string().parse().expect("a size")
    }

    #[test]
    fn the_first_names_are_the_members() {
        let three = "a=http://h:1,b=http://h:2,c=http://h:3,a=http://h:11".to_owned();
        for name in ["a", "b", "c"] {
            let initial_cluster = three.clone();
            let place = choose(FIVE, size(3), name);
            assert_eq!(place, Ok(Place::Member { initial_cluster }));
        }
        for name in ["d", "e"] {
            let initial_cluster = three.clone();
            let place = choose(FIVE, size(3), name);
            assert_eq!(place, Ok(Place::Proxy { initial_cluster }));
        }
    }

    #[test]
    fn a_short_list_is_left_alone() {
        let initial_cluster = "a=http://h:1,b=http://h:2".to_owned();
        let place = choose(&initial_cluster, size(5), "b");
        assert_eq!(place, Ok(Place::Member { initial_cluster }));
        assert!(list_is_short(2, size(5)).is_some());
        assert!(list_is_short(5, size(5)).is_none());
    }

    #[test]
    fn who_is_not_listed_is_told() {
        let error = choose(FIVE, size(3), "z")
            .expect_err("not listed")
            .to_string();
        assert!(
            error.starts_with("couldn't find local name \"z\""),
            "{error}"
        );
        assert!(error.ends_with("a, b, c, d, e"), "{error}");
        assert!(matches!(
            choose("a", size(3), "a"),
            Err(ChooseError::Entry(_))
        ));
        assert!(matches!(
            choose(",", size(3), "a"),
            Err(ChooseError::Entry(_))
        ));
    }

    #[test]
    fn the_token_wins_and_it_is_said() {
        assert_eq!(token_disagrees(size(3), size(3)), None);
        let said = token_disagrees(size(3), size(5)).unwrap_or_default();
        assert!(said.contains("the cluster will have 3;"), "{said}");
    }
}
