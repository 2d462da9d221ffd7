//! The v2 keys of the source: its events by recursive waits, and listings for what no event shows.
//!
//! The standby's own index is the progress. A wait for a past index also shows hidden nodes, and a
//! present one does not: so after each event, and at every poll, the wait begins again behind the
//! last event. An index without an event is a renewal of a time to live, or a change that is no
//! key's: after one, listings are compared. Each is of one index, up to which the events are
//! applied first.

mod compare;
mod settle;
mod shown;
mod source;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use keelson_proto::internal::{Replicate, ReplicatedTree, TreeEvent};
use keelson_store::internals::WalkScope;
use keelson_store::{Error, Store};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use self::compare::Comparison;
use self::source::{PendingWait, TreeSource, TreeSourceError, Wait};
use super::FollowPlan;

/// The size of a command, in bytes, unless one event is larger; and its events.
const COMMAND_BYTES: usize = 1 << 20;
const EVENTS_MAX: usize = 256;
/// The wait for a past event whose answer has begun.
const PROMPT: Duration = Duration::from_millis(20);
/// After that no event comes: the index was advanced without one.
const SILENT: Duration = Duration::from_secs(1);
/// The same before a comparison, which shows what an event that comes later has changed.
const COMPARE_SILENT: Duration = Duration::from_millis(200);
/// The shortest time between two comparisons, and how much longer than one of them it is.
const COMPARE_AGAIN: Duration = Duration::from_secs(10);
const COMPARE_SHARE: u32 = 20;
/// How long v3 keys wait for v2 keys at a time: with auth, an etcd takes 0.1 s for each event.
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

/// What the source has from an index on.
enum Heard {
    /// The first event.
    Event(Box<TreeEvent>),
    /// No event up to that index.
    Silence { upto: u64 },
    /// Nothing yet.
    Nothing,
    /// It must be asked again.
    Again,
    /// The history begins later.
    Cleared { oldest: u64 },
    /// Less than was followed.
    Behind,
}

/// Follows the v2 keys of one member of the source.
pub(super) struct TreeFollower<'a> {
    store: &'a Store,
    source: TreeSource,
    /// Hidden directories that the operator has named.
    named: &'a [String],
    pending: Option<PendingWait>,
    /// Whether the source has more than was read in time.
    has_more: bool,
    /// Whether something may have changed that no event shows.
    is_unsure: bool,
    compared: Option<(Instant, Duration)>,
    is_off: bool,
    warned: String,
}

impl<'a> TreeFollower<'a> {
    pub(super) fn new(store: &'a Store, plan: &'a FollowPlan, url: &str) -> TreeFollower<'a> {
        TreeFollower {
            store,
            source: TreeSource::new(url, &plan.access),
            named: &plan.hidden,
            pending: None,
            has_more: false,
            is_unsure: true,
            compared: None,
            is_off: !plan.v2,
            warned: String::new(),
        }
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
        self.catch_up(u64::MAX, PROMPT).await?;
        let is_due = self
            .compared
            .is_none_or(|(at, took)| COMPARE_AGAIN.max(took * COMPARE_SHARE) < at.elapsed());
        if is_poll && self.is_unsure && is_due && !self.has_more {
            self.compare().await?;
        }
        Ok(())
    }

    /// Applies the events up to an index. `patience` is how long one that is past may take.
    async fn catch_up(&mut self, upto: u64, patience: Duration) -> Result<(), TreeFollowError> {
        let (mut part, mut bytes) = (self.part(), 0);
        let until = Instant::now() + STEP_MAX;
        self.has_more = false;
        while part.index < upto {
            if upto == u64::MAX && until < Instant::now() {
                self.has_more = true;
                break;
            }
            match self.hear(part.index + 1, upto, patience).await? {
                Heard::Nothing => break,
                Heard::Again => {}
                Heard::Behind => {
                    self.send(part).await?;
                    return self.source_is_behind().await;
                }
                Heard::Cleared { oldest } => {
                    self.send(part).await?;
                    self.reset(oldest.saturating_sub(1)).await?;
                    (part, bytes) = (self.part(), 0);
                }
                Heard::Silence { upto: index } => self.skip_to(&mut part, index.min(upto)),
                Heard::Event(event) if upto < event.index => self.skip_to(&mut part, upto),
                Heard::Event(event) => {
                    self.is_unsure |= part.index + 1 < event.index;
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

    /// What the source has from an index on.
    async fn hear(
        &mut self,
        from: u64,
        upto: u64,
        patience: Duration,
    ) -> Result<Heard, TreeFollowError> {
        // One that began before the source had `upto` does not tell whether that has an event.
        let is_new = |pending: &PendingWait| upto == u64::MAX || upto <= pending.index;
        let pending = self.pending.take();
        let pending = pending.filter(|pending| pending.from == from && is_new(pending));
        let mut pending = match pending {
            Some(pending) => pending,
            None => match self.source.wait(from).await? {
                Wait::Begun(pending) => pending,
                Wait::Cleared { oldest } => return Ok(Heard::Cleared { oldest }),
            },
        };
        if pending.index + 1 < from {
            return Ok(Heard::Behind);
        }
        let is_past = from <= pending.index;
        if !is_past && !pending.is_over() {
            self.pending = Some(pending);
            return Ok(Heard::Nothing);
        }
        match timeout(patience, pending.event(&mut self.source)).await {
            Err(_) if upto == u64::MAX && pending.began.elapsed() < SILENT => {
                self.pending = Some(pending);
                Ok(Heard::Nothing)
            }
            Err(_) => Ok(Heard::Silence {
                upto: pending.index,
            }),
            Ok(event) => match event? {
                // A hidden one may have come before.
                Some(event) if pending.index < event.index && from < event.index => {
                    Ok(Heard::Again)
                }
                Some(event) if from <= event.index => Ok(Heard::Event(Box::new(event))),
                // A wait has a limit of time.
                None if !is_past => Ok(Heard::Nothing),
                _ => Err(TreeFollowError::Lost(
                    "it answers a wait with another event".to_owned(),
                )),
            },
        }
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
        self.is_unsure |= part.index < index;
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

    /// Begins anew: the source's history begins after that index.
    async fn reset(&mut self, index: u64) -> Result<(), TreeFollowError> {
        let before = self.store.tree_index();
        info!(before, index, "reading the source's v2 keys anew");
        self.is_unsure = true;
        self.compared = None;
        let part = ReplicatedTree {
            after: before,
            reset: true,
            index,
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
        self.reset(0).await
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
        self.is_unsure = false;
        let mut comparison = Comparison::new(self.hidden());
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
            let was_unsure = self.is_unsure;
            self.catch_up(listed.index, COMPARE_SILENT).await?;
            if asked.is_all() {
                // What it does not show is in the listing.
                self.is_unsure = was_unsure;
            }
            let index = self.store.tree_index();
            if index != listed.index {
                return Err(TreeFollowError::Lost(
                    "its v2 index does not advance".to_owned(),
                ));
            }
            for part in comparison.differing(asked, listed, self.store) {
                self.send(part).await?;
            }
        }
        if self.compared.is_none() {
            info!(
                index = self.store.tree_index(),
                named = self.named.join(" "),
                "following v2 keys; hidden ones that are not named by --v2-hidden are followed \
                 from their next change on, and v2 accounts are not"
            );
        }
        self.compared = Some((Instant::now(), began.elapsed()));
        Ok(())
    }

    /// The hidden nodes that are known: by name, or by an event.
    fn hidden(&self) -> BTreeSet<Vec<u8>> {
        let all = WalkScope {
            recursive: true,
            hidden: true,
        };
        let below = self.store.tree_below(b"/1", all).into_iter();
        let hidden = below.filter(|node| {
            let name = node.key.rsplit(|byte| *byte == b'/').next();
            name.is_some_and(|name| name.starts_with(b"_"))
        });
        let named = self
            .named
            .iter()
            .map(|path| [b"/1", path.as_bytes()].concat());
        hidden.map(|node| node.key.to_vec()).chain(named).collect()
    }
}

/// The approximate size of an event in a command, in bytes.
fn size(event: &TreeEvent) -> usize {
    let nodes = [&event.node, &event.prev].into_iter().flatten();
    let bytes = nodes.map(|node| 64 + node.key.len() + node.value.as_ref().map_or(0, Bytes::len));
    bytes.sum()
}
