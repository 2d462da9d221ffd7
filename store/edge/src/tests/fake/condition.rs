//! The condition of the fake member.

use keelson_proto::etcdserverpb::{AlarmMember, Member};

use super::Fake;
use crate::Error;

/// What tests change about it.
#[derive(Default)]
pub(crate) struct Condition {
    pub(crate) leaderless: bool,
    /// There is a leader, but it does not respond.
    pub(crate) silent: bool,
    pub(crate) learner: bool,
    /// Accepts v2 values of 10 MB, as a member's log does.
    pub(crate) takes_large: bool,
    pub(crate) alarms: Vec<AlarmMember>,
    /// The members, in place of the single one.
    pub(crate) members: Option<Vec<Member>>,
    /// The removed members.
    pub(crate) removed: Vec<u64>,
    /// The outcome of membership changes, instead of an error.
    pub(crate) member_change: Option<Result<Member, Error>>,
}

impl Fake {
    /// Waits while requests are held back.
    pub(super) async fn opened(&self) {
        let mut open = self.0.open.subscribe();
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        open.wait_for(|open| *open).await.expect("the fake lives");
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
