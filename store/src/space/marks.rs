//! Warnings before space runs out: of the quota at 80 and at 95 % of it, and of a disk that has
//! less room than the quota lets the store grow.

/// Shares of the quota at which a warning is logged, in percent.
const QUOTA_MARKS: [u64; 2] = [80, 95];

/// By how much the share must fall below a mark before it counts again, in percent.
const HYSTERESIS: u64 = 5;

/// What has been warned of.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The highest mark of the quota that was reached, in percent; 0 for none.
    quota: u64,
    /// The disk has too little room.
    disk: bool,
}

/// Bytes that the store holds and may hold, and what the disk has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// What the store holds.
    pub(super) held: u64,
    /// The most that it may hold.
    pub(super) quota: u64,
    /// What is free on the device of the engine; `None` if the system does not say.
    pub(super) disk: Option<u64>,
}

/// A warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warning {
    /// So many percent of the quota are in use.
    Quota(u64),
    /// The disk has less room than the store may still take.
    Disk,
}

impl Marks {
    /// The warnings that are due now, each once until its reason has gone.
    pub(super) fn look(&mut self, space: Space) -> impl Iterator<Item = Warning> + use<> {
        let percent =
            |bytes: u64| (u128::from(bytes) * 100 / u128::from(space.quota.max(1))) as u64;
        let share = percent(space.held);
        let reached = QUOTA_MARKS.into_iter().rev().find(|mark| *mark <= share);
        let reached = reached.unwrap_or(0);
        let quota = (self.quota < reached).then_some(Warning::Quota(reached));
        if quota.is_some() || share + HYSTERESIS <= self.quota {
            self.quota = reached;
        }
        // No quota is no promise of room.
        let bounded = space.quota < i64::MAX as u64;
        let growth = space.quota.saturating_sub(space.held);
        let is_short = bounded && space.disk.is_some_and(|free| free < growth);
        let disk = (is_short && !self.disk).then_some(Warning::Disk);
        // The same hysteresis, of the quota.
        let enough = growth.saturating_add(space.quota / 100 * HYSTERESIS);
        if is_short || space.disk.is_some_and(|free| enough <= free) {
            self.disk = is_short;
        }
        quota.into_iter().chain(disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(marks: &mut Marks, held: u64, disk: Option<u64>) -> Vec<Warning> {
        let quota = 1000;
        marks.look(Space { held, quota, disk }).collect()
    }

    #[test]
    fn each_mark_of_the_quota_is_warned_of_once_until_the_share_has_fallen() {
        let mut marks = Marks::default();
        let shares = [
            790, 800, 810, 796, 805, 950, 960, 946, 951, 890, 950, 0, 990,
        ];
        let warned: Vec<_> = shares.map(|held| look(&mut marks, held, None)).into();
        let at = |mark| vec![Warning::Quota(mark)];
        let none = Vec::new;
        let expected = [
            none(),
            at(80),
            none(),
            none(),
            none(),
            at(95),
            none(),
            none(),
            none(),
            none(),
            at(95),
            none(),
            at(95),
        ];
        assert_eq!(warned, expected);
    }

    #[test]
    fn a_disk_with_less_room_than_the_quota_leaves_is_warned_of_once() {
        let mut marks = Marks::default();
        assert_eq!(look(&mut marks, 100, Some(900)), []);
        assert_eq!(look(&mut marks, 100, Some(899)), [Warning::Disk]);
        assert_eq!(look(&mut marks, 100, Some(800)), []);
        assert_eq!(
            look(&mut marks, 100, Some(910)),
            [],
            "within the hysteresis"
        );
        assert_eq!(look(&mut marks, 100, Some(899)), []);
        assert_eq!(look(&mut marks, 100, Some(950)), []);
        assert_eq!(look(&mut marks, 100, Some(899)), [Warning::Disk]);
        assert_eq!(
            look(&mut marks, 500, Some(899)),
            [],
            "what is held needs no more"
        );
    }

    #[test]
    fn a_store_without_a_quota_has_no_marks() {
        let (held, quota) = (1 << 40, i64::MAX as u64);
        let space = Space {
            held,
            quota,
            disk: Some(1),
        };
        assert_eq!(Marks::default().look(space).count(), 0);
    }
}
