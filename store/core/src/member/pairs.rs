//! Which members' pairs differ, by the hashes of all at one revision.

use std::collections::BTreeMap;

use crate::MemberId;

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairsJudgement {
    /// All that were compared are the same.
    Same,
    /// These differ from a majority of the voters.
    Differ(Vec<MemberId>),
    /// Some differ, and no hash has a majority of the voters.
    Undecided,
}

/// Judges the hashes of the members that were compared, each at most once.
pub fn judge_pairs(voters: &[MemberId], hashes: &[(MemberId, u32)]) -> PairsJudgement {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    for (member, hash) in hashes {
        *votes.entry(*hash).or_default() += usize::from(voters.contains(member));
    }
    if votes.len() <= 1 {
        return PairsJudgement::Same;
    }
    let majority = votes.iter().find(|(_, count)| voters.len() / 2 < **count);
    let Some((agreed, _)) = majority else {
        return PairsJudgement::Undecided;
    };
    let differ = hashes.iter().filter(|(_, hash)| hash != agreed);
    PairsJudgement::Differ(differ.map(|(member, _)| *member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_of_the_voters_decides() {
        let voters = [1, 2, 3].map(MemberId);
        let judge = |hashes: &[(u64, u32)]| {
            let hashes: Vec<_> = hashes
                .iter()
                .map(|(id, hash)| (MemberId(*id), *hash))
                .collect();
            judge_pairs(&voters, &hashes)
        };
        let differ = |id| PairsJudgement::Differ(vec![MemberId(id)]);
        assert_eq!(judge(&[(1, 7), (2, 7), (3, 7)]), PairsJudgement::Same);
        assert_eq!(judge(&[(1, 7), (2, 8), (3, 8)]), differ(1));
        // A learner is compared, and has no vote.
        assert_eq!(judge(&[(1, 7), (2, 7), (9, 8)]), differ(9));
        assert_eq!(judge(&[(1, 7), (2, 8), (9, 8)]), PairsJudgement::Undecided);
        assert_eq!(judge(&[(1, 7), (2, 8)]), PairsJudgement::Undecided);
        assert_eq!(judge(&[(1, 7)]), PairsJudgement::Same);
    }
}
