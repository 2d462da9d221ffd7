//! The next step of a replacement, from the list of members alone: a command that was interrupted
//! continues where the list shows it to be.

use keelson_proto::etcdserverpb::Member;

use super::error::ReplaceError;

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum ReplaceStep<'a> {
    /// Remove the member that has lost its data.
    Remove(&'a Member),
    /// Add its successor as a learner.
    Add,
    /// Wait until the successor is started.
    Start(&'a Member),
    /// Promote the successor.
    Promote(&'a Member),
    /// The successor is a voter that has been started.
    Done(&'a Member),
    /// A voter that this run has not seen as a learner has a peer URL of the successor: possibly
    /// the member that has lost its data, under another name.
    Taken(&'a Member),
}

/// The member to be replaced, and its successor.
#[derive(Debug)]
pub(super) struct Replacement {
    /// The member's id. `None`: it was removed before.
    pub(super) old: Option<u64>,
    /// The name of the successor.
    pub(super) name: String,
    /// The peer URLs of the successor.
    pub(super) peer_urls: Vec<String>,
    /// The successor's id, once this run has added it or seen it before it voted.
    pub(super) successor: Option<u64>,
}

impl Replacement {
    /// Finds the member of that name or hexadecimal id. Without it, the replacement continues after
    /// the removal.
    ///
    /// # Errors
    /// The peer URLs of the successor cannot be derived from the list.
    pub(super) fn find(
        member: &str,
        name: Option<&str>,
        peer_urls: &[String],
        members: &[Member],
    ) -> Result<Replacement, ReplaceError> {
        let by_id = |one: &&Member| format!("{:x}", one.id) == member;
        let named: Vec<_> = members.iter().filter(|one| one.name == member).collect();
        if 1 < named.len() {
            return Err(ReplaceError::Ambiguous(member.to_owned()));
        }
        let found = named.first().copied();
        let found = found.or_else(|| members.iter().find(by_id));
        // A learner of that name is the successor of an interrupted replacement; by its id it can
        // be replaced itself.
        let is_successor = |one: &Member| one.is_learner && one.name == member;
        let old = found.filter(|one| !is_successor(one));
        let has_its_name = |one: &&Member| one.is_learner && Some(&*one.name) == name;
        let basis = found
            .or_else(|| members.iter().find(has_its_name))
            .or_else(|| the_only_unstarted_learner(members));
        let urls = match (peer_urls, basis) {
            ([], Some(basis)) => basis.peer_ur_ls.clone(),
            ([], None) => return Err(ReplaceError::not_found(member, members)),
            (urls, _) => urls.to_vec(),
        };
        let own_name = found.map_or(member, |one| &one.name);
        let name = name.unwrap_or(if own_name.is_empty() {
            member
        } else {
            own_name
        });
        Ok(Replacement {
            old: old.map(|one| one.id),
            name: name.to_owned(),
            peer_urls: urls,
            successor: None,
        })
    }

    /// The next step.
    pub(super) fn next<'a>(&mut self, members: &'a [Member]) -> ReplaceStep<'a> {
        if let Some(voter) = members.iter().find(|one| self.is_in_its_place(one)) {
            return ReplaceStep::Taken(voter);
        }
        if let Some(old) = members.iter().find(|one| Some(one.id) == self.old) {
            return ReplaceStep::Remove(old);
        }
        let Some(new) = members.iter().find(|one| self.is_successor(one)) else {
            return ReplaceStep::Add;
        };
        self.successor = Some(new.id);
        match new.is_learner {
            _ if new.name.is_empty() => ReplaceStep::Start(new),
            true => ReplaceStep::Promote(new),
            false => ReplaceStep::Done(new),
        }
    }

    /// Whether another voter has a peer URL of the successor.
    fn is_in_its_place(&self, member: &Member) -> bool {
        let is_other = ![self.old, self.successor].contains(&Some(member.id));
        let has_voted = !member.is_learner && !member.name.is_empty();
        is_other && has_voted && self.is_successor(member)
    }

    fn is_successor(&self, member: &Member) -> bool {
        let mut urls = member.peer_ur_ls.iter();
        urls.any(|url| self.peer_urls.contains(url))
    }
}

/// The learner that an interrupted replacement has added.
fn the_only_unstarted_learner(members: &[Member]) -> Option<&Member> {
    let mut waiting = members
        .iter()
        .filter(|one| one.is_learner && one.name.is_empty());
    let first = waiting.next()?;
    waiting.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, is_learner: bool) -> Member {
        Member {
            id,
            name: name.to_owned(),
            peer_ur_ls: vec![format!("http://{}:1", id % 10)],
            is_learner,
            ..Member::default()
        }
    }

    fn three() -> Vec<Member> {
        (1..=3)
            .map(|id| member(id, &format!("m{id}"), false))
            .collect()
    }

    fn find(name: &str, urls: &[&str], members: &[Member]) -> Result<Replacement, ReplaceError> {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        Replacement::find(name, None, &urls, members)
    }

    #[test]
    fn a_member_is_removed_added_started_and_promoted() {
        let mut members = three();
        let mut replacement = find("m3", &[], &members).expect("it is listed");
        assert_eq!(replacement.next(&members), ReplaceStep::Remove(&members[2]));
        members.remove(2);
        assert_eq!(replacement.next(&members), ReplaceStep::Add);
        members.push(member(13, "", true));
        assert_eq!(replacement.next(&members), ReplaceStep::Start(&members[2]));
        members[2].name = "m3".to_owned();
        assert_eq!(
            replacement.next(&members),
            ReplaceStep::Promote(&members[2])
        );
        members[2].is_learner = false;
        assert_eq!(replacement.next(&members), ReplaceStep::Done(&members[2]));
    }

    #[test]
    fn an_interrupted_replacement_continues_where_the_list_shows_it() {
        let mut members = three();
        members.remove(2);
        let error = find("m3", &[], &members).expect_err("its URLs are gone");
        assert!(error.to_string().contains("--peer-urls"), "{error}");
        let mut replacement = find("m3", &["http://3:1"], &members).expect("the URLs are given");
        assert_eq!((replacement.old, &*replacement.name), (None, "m3"));
        assert_eq!(replacement.next(&members), ReplaceStep::Add);
        // The learner has no name before its first start.
        members.push(member(13, "", true));
        let mut replacement = find("m3", &[], &members).expect("the only learner");
        assert_eq!((replacement.old, &*replacement.name), (None, "m3"));
        assert_eq!(replacement.next(&members), ReplaceStep::Start(&members[2]));
        members[2].name = "m3".to_owned();
        let mut replacement = find("m3", &[], &members).expect("the learner");
        assert_eq!(
            replacement.next(&members),
            ReplaceStep::Promote(&members[2])
        );
    }

    #[test]
    fn a_member_is_found_by_its_id_and_may_get_another_name_and_url() {
        let mut members = three();
        members.push(member(0xabc, "m4", true));
        let mut by_id = find("abc", &[], &members).expect("a learner, by its id");
        assert_eq!(by_id.next(&members), ReplaceStep::Remove(&members[3]));
        assert_eq!(by_id.name, "m4");
        let urls = ["http://9:1".to_owned()];
        let moved = Replacement::find("m2", Some("n2"), &urls, &members).expect("it is listed");
        assert_eq!((moved.old, &*moved.name), (Some(2), "n2"));
        assert_eq!(moved.peer_urls, urls);
        // The learner has the new name, and has been started.
        let mut waiting = vec![member(1, "m1", false), member(12, "n2", true)];
        let mut again = Replacement::find("m2", Some("n2"), &[], &waiting).expect("the learner");
        assert_eq!(again.next(&waiting), ReplaceStep::Promote(&waiting[1]));
        waiting[1].is_learner = false;
        assert_eq!(again.next(&waiting), ReplaceStep::Done(&waiting[1]));
        members[0].name = "m2".to_owned();
        let error = find("m2", &[], &members).expect_err("two have that name");
        assert!(error.to_string().contains("id"), "{error}");
    }

    /// The member that was to be replaced was reported as its own successor.
    #[test]
    fn a_voter_that_was_no_learner_in_this_run_is_not_the_successor() {
        let mut members = three();
        let mut renamed = find("n2", &["http://2:1"], &members).expect("the URLs are given");
        assert_eq!(renamed.next(&members), ReplaceStep::Taken(&members[1]));
        // The mistake is found before the member is removed.
        let mut misplaced = find("m3", &["http://2:1"], &members).expect("it is listed");
        assert_eq!(misplaced.next(&members), ReplaceStep::Taken(&members[1]));
        // A member added as a voter by hand is the successor: it waits for its first start.
        members.push(member(14, "", false));
        let mut added = find("m4", &["http://4:1"], &members).expect("the URLs are given");
        assert_eq!(added.next(&members), ReplaceStep::Start(&members[3]));
        members[3].name = "m4".to_owned();
        assert_eq!(added.next(&members), ReplaceStep::Done(&members[3]));
    }
}
