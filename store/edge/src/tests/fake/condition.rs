//! The condition of the fake member.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use keelson_core::state::auth::Caller;
use keelson_proto::etcdserverpb::{AlarmMember, Member, TxnRequest, TxnResponse};
use keelson_proto::internal::command::Op;
use parking_lot::MutexGuard;

use super::Fake;
use crate::{Backend, Error, JwtKeys, NoAnswer};

/// What tests change about it.
#[derive(Default)]
pub(crate) struct Condition {
    pub(crate) leaderless: bool,
    /// There is a leader, but it does not respond.
    pub(crate) silent: bool,
    pub(crate) learner: bool,
    /// Its state differs from the majority's.
    pub(crate) fenced: bool,
    /// Transactions are answered only after their timeout, while requests are held back.
    pub(crate) late: bool,
    /// Accepts v2 values of 10 MB, as a member's log does.
    pub(crate) takes_large: bool,
    pub(crate) alarms: Vec<AlarmMember>,
    /// The members, in place of the single one.
    pub(crate) members: Option<Vec<Member>>,
    /// The removed members.
    pub(crate) removed: Vec<u64>,
    /// The outcome of membership changes, instead of an error.
    pub(crate) member_change: Option<Result<Member, Error>>,
    /// Committed, and applied here once a read waits for it.
    pub(crate) unapplied: Option<Op>,
    /// The time after which an unused token ends, in place of five minutes.
    pub(crate) token_ttl: Option<Duration>,
    /// When another member has seen a use of any token, since 1970.
    pub(crate) used_elsewhere: Option<Duration>,
    /// The keys of JWT tokens, and their time to live.
    pub(crate) jwt: Option<(Arc<JwtKeys>, Duration)>,
}

impl Condition {
    pub(super) fn ttl(&self) -> Duration {
        self.token_ttl.unwrap_or(Duration::from_secs(300))
    }
}

impl Fake {
    pub(crate) fn condition(&self) -> MutexGuard<'_, Condition> {
        self.0.condition.lock()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.0.condition.lock());
    }

    /// The member is found to differ: its watches end.
    pub(crate) fn fence(&self) {
        self.set(|state| state.fenced = true);
        self.0.watches.cut_all();
    }

    /// Applies what is committed.
    pub(super) fn catch_up(&self) -> Result<(), Error> {
        if self.condition().leaderless {
            return Err(Error::Timeout);
        }
        let unapplied = self.condition().unapplied.take();
        if let Some(op) = unapplied {
            let applied = self.apply(Caller::Member.signed(op))?;
            applied.expect("it was committed");
        }
        Ok(())
    }

    /// Waits while requests are held back.
    pub(super) async fn opened(&self) {
        let mut open = self.0.open.subscribe();
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        open.wait_for(|open| *open).await.expect("the fake lives");
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }

    pub(super) async fn txn_in_time_or_late(
        &self,
        request: TxnRequest,
    ) -> Result<TxnResponse, NoAnswer> {
        let fake = self.clone();
        let answer = async move { fake.txn(request).await };
        if !self.condition().late {
            return answer.await.map_err(|error| NoAnswer { error, late: None });
        }
        Err(NoAnswer {
            error: Error::Timeout,
            late: Some(Box::pin(answer.map(Result::ok))),
        })
    }
}
