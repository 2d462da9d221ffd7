//! The v2 keys of the source: its events by recursive waits, and listings for what no event shows.
//!
//! The standby's own index is the progress. A wait for a past index also shows hidden nodes, and a
//! present one does not: so after each event, and at every poll, the wait begins again behind the
//! last event. An index without an event is a renewal of a time to live, or a change that is no
//! key's: after one, listings are compared. Each is of one index, up to which the events are
//! applied first.

mod compare;
mod hear;
mod hidden;
mod settle;
mod shown;
mod source;
mod task;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use keelson_proto::internal::{Replicate, ReplicatedTree, TreeEvent};
use keelson_store::{Error, Store};
use tokio::time::Instant;
use tracing::{info, warn};

use self::compare::{Comparison, Differing};
use self::hear::Heard;
pub(super) use self::settle::SettledTree;
use self::source::{PendingWait, TreeSource, TreeSourceError};
pub(super) use self::task::TreeTask;
use super::FollowPlan;

/// The size of a command, in bytes, unless one event is larger; and its events.
const COMMAND_BYTES: usize = 1 << 20;
const EVENTS_MAX: usize = 256;
/// The shortest time between two comparisons, and how much longer than one of them it is.
const COMPARE_AGAIN: Duration = Duration::from_secs(10);
const COMPARE_SHARE: u32 = 20;
/// The longest pause after a comparison that has failed.
const COMPARE_RETRY_MAX: Duration = Duration::from_secs(60);
/// Histories in a row that began behind the standby: it cannot keep up by events.
const OUTRUN: u32 = 2;
/// How long events are read at a time, until a comparison or a cut-over may be due: with auth, an
/// etcd takes 0.1 s for each event.
const STEP_MAX: Duration = Duration::from_millis(300);

/// Why v2 keys are not followed for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeFollowError {
    #[error("{0}")]
    Source(#[from] TreeSourceError),
    #[error("{0}")]
    Lost(String),
    #[error("the standby: {0}")]
    Standby(#[from] Error),
}

/// Follows the v2 keys of one member of the source.
pub(super) struct TreeFollower<'a> {
    store: &'a Store,
    source: TreeSource,
    /// Hidden directories that the operator has named.
    named: &'a [String],
    /// Hidden nodes that were met: whole paths. The standby may have lost them by beginning anew.
    hidden: &'a mut BTreeSet<Vec<u8>>,
    pending: Option<PendingWait>,
    /// The index from which on no event came in time, once.
    doubted: Option<u64>,
    /// Whether the source has more than was read in time.
    has_more: bool,
    /// How often something may have changed that no event shows.
    gaps: u64,
    /// How many of these a whole comparison has put right; `None` before the first.
    compared_gaps: Option<u64>,
    /// The earliest time of the next comparison.
    compare_at: Option<Instant>,
    /// Histories that began behind the standby since it last had everything.
    cleared: u32,
    is_told: bool,
    is_off: bool,
    warned: String,
}

impl<'a> TreeFollower<'a> {
    /// `hidden` are hidden nodes that were met when another member was followed.
    pub(super) fn new(
        store: &'a Store,
        plan: &'a FollowPlan,
        url: &str,
        hidden: &'a mut BTreeSet<Vec<u8>>,
    ) -> TreeFollower<'a> {
        TreeFollower {
            store,
            source: TreeSource::new(url, &plan.access),
            named: &plan.hidden,
            hidden,
            pending: None,
            doubted: None,
            has_more: false,
            gaps: 0,
            compared_gaps: None,
            compare_at: None,
            cleared: 0,
            is_told: false,
            is_off: !plan.v2,
            warned: String::new(),
        }
    }

    /// Whether something may have changed that no event shows.
    fn is_unsure(&self) -> bool {
        self.compared_gaps != Some(self.gaps)
    }

    fn is_outrun(&self) -> bool {
        OUTRUN <= self.cleared
    }

    /// Ends when the source has something new.
    pub(super) async fn woken(&mut self) {
        match &mut self.pending {
            _ if self.has_more => {}
            Some(pending) if !self.is_off => pending.over().await,
            _ => std::future::pending().await,
        }
    }

    /// Reads what is new. At a poll also what has not woken it. A source that cannot be read is
    /// read again at the next poll.
    pub(super) async fn step(&mut self, is_poll: bool) {
        let is_woken = self.has_more || self.pending.is_some();
        if self.is_off || !(is_poll || is_woken) {
            return;
        }
        match self.try_step(is_poll).await {
            Ok(()) if self.is_unsure() => {}
            Ok(()) => self.warned.clear(),
            Err(TreeFollowError::Source(TreeSourceError::Off)) => {
                info!(
                    url = self.source.url,
                    "the source serves no v2 keys: none are followed"
                );
                self.is_off = true;
            }
            Err(error) => {
                (self.pending, self.has_more) = (None, false);
                let error = error.to_string();
                if error != self.warned {
                    let url = &self.source.url;
                    warn!(
                        url,
                        error, "the source's v2 keys cannot be followed; trying again"
                    );
                    self.warned = error;
                }
            }
        }
    }

    async fn try_step(&mut self, is_poll: bool) -> Result<(), TreeFollowError> {
        if is_poll {
            // Hidden nodes do not wake it.
            self.pending.take_if(|pending| pending.index < pending.from);
        }
        self.catch_up(u64::MAX).await?;
        let is_due = self.compare_at.is_none_or(|at| at < Instant::now());
        // One that cannot keep up by events does so by listings.
        let is_time = !self.has_more || self.is_outrun();
        if is_poll && self.is_unsure() && is_due && is_time {
            self.compare().await?;
        }
        Ok(())
    }

    /// Applies the events up to an index.
    async fn catch_up(&mut self, upto: u64) -> Result<(), TreeFollowError> {
        let (mut part, mut bytes) = (self.part(), 0);
        let until = Instant::now() + STEP_MAX;
        self.has_more &= upto != u64::MAX;
        while part.index < upto {
            if upto == u64::MAX && until < Instant::now() {
                self.has_more = true;
                break;
            }
            match self.hear(part.index + 1, upto).await? {
                Heard::Nothing => break,
                Heard::Again => {}
                Heard::Behind => {
                    self.send(part).await?;
                    return self.source_is_behind().await;
                }
                Heard::Cleared { oldest } => {
                    self.note_cleared(part.index, oldest)?;
                    self.skip_to(&mut part, upto.min(oldest - 1));
                }
                Heard::Silence { upto: index } => self.skip_to(&mut part, index.min(upto)),
                Heard::Event(event) if upto < event.index => self.skip_to(&mut part, upto),
                Heard::Event(event) => {
                    self.gaps += u64::from(part.index + 1 < event.index);
                    self.note_hidden(&event);
                    part.index = event.index;
                    bytes += size(&event);
                    part.events.push(*event);
                }
            }
            if COMMAND_BYTES <= bytes || EVENTS_MAX <= part.events.len() {
                self.send(part).await?;
                (part, bytes) = (self.part(), 0);
            }
        }
        self.send(part).await
    }

    /// A command that begins at the standby's index.
    fn part(&self) -> ReplicatedTree {
        let index = self.store.tree_index();
        ReplicatedTree {
            after: index,
            index,
            ..ReplicatedTree::default()
        }
    }

    fn skip_to(&mut self, part: &mut ReplicatedTree, index: u64) {
        self.gaps += u64::from(part.index < index);
        part.index = part.index.max(index);
    }

    async fn send(&self, part: ReplicatedTree) -> Result<(), TreeFollowError> {
        let is_empty = part.after == part.index && part.nodes.is_empty() && part.gone.is_empty();
        if is_empty {
            return Ok(());
        }
        let index = part.index;
        let command = Replicate {
            after: self.store.revision(),
            tree: Some(part),
            ..Replicate::default()
        };
        self.store.replicate(command).await?;
        match self.store.tree_index() {
            now if now == index => Ok(()),
            now => Err(TreeFollowError::Lost(format!(
                "the standby's v2 index is {now} and not {index}: an earlier change was late"
            ))),
        }
    }

    /// The history begins behind an index. The nodes stay: a comparison puts them right.
    fn note_cleared(&mut self, index: u64, oldest: u64) -> Result<(), TreeFollowError> {
        if oldest <= index + 1 {
            let error = "its history has no event that it should have";
            return Err(TreeFollowError::Lost(error.to_owned()));
        }
        info!(
            index,
            oldest, "the source's v2 history begins later: its v2 keys will be compared"
        );
        if self.cleared == 0 {
            self.compare_at = None;
        }
        self.cleared = self.cleared.saturating_add(1);
        Ok(())
    }

    /// Begins anew, without keys and events.
    async fn reset(&mut self) -> Result<(), TreeFollowError> {
        let before = self.store.tree_index();
        info!(before, "reading the source's v2 keys anew");
        let known = self.hidden_here().await?;
        self.hidden.extend(known);
        self.gaps += 1;
        self.compare_at = None;
        let part = ReplicatedTree {
            after: before,
            reset: true,
            ..ReplicatedTree::default()
        };
        self.send(part).await
    }

    /// A member may lag; one that does not has another past.
    async fn source_is_behind(&mut self) -> Result<(), TreeFollowError> {
        let (ours, theirs) = (self.store.tree_index(), self.index().await?);
        if ours <= theirs {
            return Err(TreeFollowError::Lost("the member lags".to_owned()));
        }
        self.reset().await
    }

    /// The source's index now.
    async fn index(&mut self) -> Result<u64, TreeSourceError> {
        // It does not exist, as a rule: that costs the least.
        let listed = self.source.list(b"/_keelson_follow", false).await?;
        Ok(listed.index)
    }

    /// Makes all that is followed as it is at the source.
    async fn compare(&mut self) -> Result<(), TreeFollowError> {
        let began = Instant::now();
        let compared = self.compare_now().await;
        let share = began.elapsed() * COMPARE_SHARE;
        let pause = match &compared {
            Ok(()) => share.max(COMPARE_AGAIN),
            Err(_) => share.min(COMPARE_RETRY_MAX),
        };
        self.compare_at = Some(Instant::now() + pause);
        compared
    }

    async fn compare_now(&mut self) -> Result<(), TreeFollowError> {
        // What was before is in every listing.
        let mut shown = self.gaps;
        let mut comparison = Comparison::new();
        while let Some(asked) = comparison.next() {
            let listed = match self
                .source
                .list(asked.shown_path(), asked.is_recursive)
                .await
            {
                Err(TreeSourceError::TooLarge) if asked.is_recursive => {
                    comparison.split(asked);
                    continue;
                }
                listed => listed?,
            };
            let before = self.gaps;
            self.go_to(listed.index, asked.is_all()).await?;
            if asked.is_all() {
                shown += self.gaps - before;
                comparison.add(self.hidden().await?);
            }
            let differing = move |store: &Store| Differing::find(&asked, listed, store);
            let differing = self.store.compute(differing).await?;
            comparison.add(differing.children);
            for part in differing.parts {
                self.send(part).await?;
            }
        }
        if !self.is_told {
            self.is_told = true;
            info!(
                index = self.store.tree_index(),
                named = self.named.join(" "),
                "following v2 keys; hidden ones that are not named by --v2-hidden are followed \
                 from their next change on, and v2 accounts are not"
            );
        }
        // From here on events may do again.
        self.cleared = self.cleared.min(OUTRUN - 1);
        self.compared_gaps = Some(shown);
        if !self.is_unsure() {
            *self.hidden = self.hidden_here().await?;
        }
        Ok(())
    }

    /// Follows up to the index of a listing: by events, unless they come faster than they are read.
    async fn go_to(&mut self, index: u64, is_all: bool) -> Result<(), TreeFollowError> {
        match is_all && self.is_outrun() && self.store.tree_index() < index {
            true => {
                let mut part = self.part();
                self.skip_to(&mut part, index);
                self.send(part).await?;
            }
            false => self.catch_up(index).await?,
        }
        match self.store.tree_index() == index {
            true => Ok(()),
            false => Err(TreeFollowError::Lost(
                "its v2 index does not advance".to_owned(),
            )),
        }
    }
}

/// The approximate size of an event in a command, in bytes.
fn size(event: &TreeEvent) -> usize {
    let nodes = [&event.node, &event.prev].into_iter().flatten();
    let bytes = nodes.map(|node| 64 + node.key.len() + node.value.as_ref().map_or(0, Bytes::len));
    bytes.sum()
}
