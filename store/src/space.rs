//! The quota, and the NOSPACE alarm of this member: raised for a request that does not fit, taken
//! back when there is room again.
//!
//! etcd leaves the alarm until an operator disarms it, also where its reason is gone (etcd#20753: a
//! larger quota does not clear it).

mod marks;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keelson_core::state::{self, auth::Caller};
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use keelson_proto::internal::command::Op;

use crate::disk::available_bytes;
use crate::submit::AtTimeout;
use crate::{Error, Store};
use marks::{Marks, Space, Warning};

/// The pause between two looks at the space.
const AGAIN: Duration = Duration::from_millis(500);

/// Of so many looks one is at the disk as well, which may be a slow one.
const LOOKS_A_DISK: u64 = 20;

impl Store {
    /// Checks the quota. If the request does not fit, it raises the NOSPACE alarm for the cluster,
    /// unless this member has raised it already.
    pub(crate) async fn require_room(&self, cost: u64) -> Result<(), Error> {
        if self.view().has_room(cost) {
            return Ok(());
        }
        if !self.has_alarm() {
            let quota = self.config().quota_bytes;
            tracing::warn!(quota, "the storage quota is used up");
            self.inner.alarm_reason.note_short();
            self.change_alarm(AlarmAction::Activate).await?;
        }
        Err(Error::State(state::Error::NoSpace))
    }

    /// Whether the NOSPACE alarm is raised in this member's name.
    fn has_alarm(&self) -> bool {
        let mine = AlarmMember {
            member_id: self.member_id().0,
            alarm: AlarmType::Nospace.into(),
        };
        self.view().alarms().contains(&mine)
    }

    async fn change_alarm(&self, action: AlarmAction) -> Result<(), Error> {
        let alarm = AlarmRequest {
            action: action.into(),
            member_id: self.member_id().0,
            alarm: AlarmType::Nospace.into(),
        };
        // Not a client's request: a user may not change alarms.
        let member = self.acting_as(Caller::Member);
        let changed = member.submit_signed(Op::Alarm(alarm), AtTimeout::Forget);
        changed.await.map(drop).map_err(|failed| failed.error)
    }
}

/// Why this member's alarm is raised. One that a client raises while there is room has another
/// reason than space, and stays.
pub(crate) struct Reason {
    /// How often space was found to be short. The first time is before the start: an alarm of an
    /// earlier run counts as raised for that.
    shortages: AtomicU64,
}

const AT_START: u64 = 1;

impl Reason {
    pub(crate) fn at_start() -> Reason {
        Reason {
            shortages: AtomicU64::new(AT_START),
        }
    }

    fn note_short(&self) {
        self.shortages.fetch_add(1, Ordering::SeqCst);
    }

    /// The shortages so far, if the alarm is to be taken back: it is raised, there is room, and
    /// space was short since `ended`.
    fn gone_since(&self, ended: u64, is_raised: bool, has_room: bool) -> Option<u64> {
        if !has_room {
            self.note_short();
        }
        let shortages = self.shortages.load(Ordering::SeqCst);
        (is_raised && has_room && ended < shortages).then_some(shortages)
    }
}

/// Warns when the quota or the disk is nearly full.
pub(crate) async fn warn(store: Store) {
    let mut stopping = store.watch_stopping();
    let (mut marks, mut disk) = (Marks::default(), None);
    for look in 0_u64.. {
        if look.is_multiple_of(LOOKS_A_DISK) {
            let dir = store.config().data_dir.clone();
            let jobs = &store.inner.shared.jobs;
            let free = jobs.spawn_blocking(move || available_bytes(&dir).ok());
            disk = free.await.ok().flatten();
        }
        let (held, quota) = (store.view().held_bytes(), store.config().quota_bytes);
        let space = Space { held, quota, disk };
        for warning in marks.look(space) {
            say(warning, space, &store.config().data_dir);
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

fn say(warning: Warning, space: Space, dir: &Path) {
    let Space { held, quota, disk } = space;
    match warning {
        Warning::Quota(percent) => tracing::warn!(
            held,
            quota,
            "{percent} % of the storage quota is in use: compact, or raise --quota-backend-bytes"
        ),
        Warning::Disk => tracing::warn!(
            held,
            quota,
            available = disk,
            dir = %dir.display(),
            "the disk has less room than the storage quota permits: it would be full first"
        ),
    }
}

/// Takes the alarm back when the store holds clearly less than the quota, until the member stops.
pub(crate) async fn watch(store: Store) {
    let reason = &store.inner.alarm_reason;
    let mut stopping = store.watch_stopping();
    store.ready().await;
    let mut ended = if store.has_alarm() { 0 } else { AT_START };
    while !store.is_stopping() {
        // In this order: a shortage that is noted meanwhile counts for the next alarm.
        let (is_raised, has_room) = (store.has_alarm(), store.view().has_room_again());
        if let Some(shortages) = reason.gone_since(ended, is_raised, has_room) {
            match store.change_alarm(AlarmAction::Deactivate).await {
                Ok(()) => {
                    ended = shortages;
                    tracing::info!("there is room again: the NOSPACE alarm is taken back");
                }
                Err(error) => tracing::debug!(%error, "could not take the NOSPACE alarm back yet"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_taken_back_once_its_reason_is_gone() {
        let reason = Reason::at_start();
        let mut ended = 0;
        // From an earlier run; then by requests that did not fit, the last one between two looks.
        for is_seen in [true, true, false] {
            if is_seen {
                assert_eq!(reason.gone_since(ended, true, false), None);
            }
            let gone = reason.gone_since(ended, true, true);
            assert!(ended < gone.unwrap());
            let again = reason.gone_since(ended, true, true);
            assert_eq!(again, gone, "the first attempt failed");
            ended = again.unwrap();
            assert_eq!(reason.gone_since(ended, false, true), None);
            reason.note_short();
        }
        // By a client, while there is room.
        ended += 1;
        assert_eq!(reason.gone_since(ended, true, true), None);
        assert_eq!(reason.gone_since(ended, true, false), None);
        assert!(reason.gone_since(ended, true, true).is_some());
    }
}
